//! Given events through the engine's steps, in a random order, with restarts: no faults, but every batch size, interleaving and number of shards.

use std::path::Path;
use std::sync::Arc;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refold_processor::clock::{Clock, ManualClock};
use refold_processor::decode::{StaticSchemas, arrow_schema};
use refold_processor::engine::fold::FoldSettings;
use refold_processor::engine::map::Rules;
use refold_processor::engine::shares::Shares;
use refold_processor::engine::watermark::Quiet;
use refold_processor::log::{Log, NewRecord};
use refold_processor::position::Partition;
use refold_processor::source::{Source, load_sources};
use refold_processor::state::memory::MemoryState;
use refold_processor::table::Epoch;
use refold_processor::view::View;

use super::oracle;
use super::owner::{Owner, Scene};
use super::world::Disk;

/// An application: the folder of its declarations, and one source of it.
pub struct Application {
    /// The source.
    pub source: Source,
    /// Its views.
    pub views: Vec<Arc<View>>,
}

impl Application {
    /// Reads the declarations in `folder`.
    pub fn load(folder: &Path, source: &str) -> Application {
        let sources = load_sources(folder).unwrap();
        let schemas = sources.iter().map(|(name, source)| (name.clone(), arrow_schema(&source.schema_json).unwrap())).collect();
        let mut views: Vec<Arc<View>> = std::fs::read_dir(folder.join("views"))
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let sql = std::fs::read_to_string(&path).unwrap();
                Arc::new(View::plan(&sql, &path.display().to_string(), &schemas).unwrap_or_else(|error| panic!("{error}")))
            })
            .collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        Application { source: sources[source].clone(), views }
    }
}

/// How a run went whose rows are right.
pub struct Ran {
    /// How many rows there are.
    pub rows: usize,
    /// How often it was started again on the way.
    pub restarts: u32,
}

/// Runs `records` through `view` in a way that `seed` decides, and compares the rows with the batch.
pub fn run(application: &Application, view: &Arc<View>, records: &[NewRecord], seed: u64) -> Result<Ran, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let source = application.source.clone();
    let clock = Arc::new(ManualClock::at(1_900_000_000_000));
    let mut schemas = StaticSchemas::default();
    schemas.add(&source.schema_json).unwrap();
    // Some end at a record time.
    let until_ms = (seed % 4 == 3).then(|| clock.now_ms() + rng.random_range(-1..40));
    let settings = FoldSettings {
        shards: rng.random_range(1..=8),
        rules: Rules { until_ms, ..Rules::new(view, &source) },
        lateness_us: view.options.lateness_over(&source),
        quiet: Quiet { idle_after_ms: 1_000, idle_drop_after_ms: i64::MAX },
        shares: Arc::new(Shares::new(usize::MAX, 1 << rng.random_range(12..=20), usize::MAX)),
        max_quarantined_bytes: 100,
        most_rows: usize::MAX,
        emitted_batch_bytes: 4 << 20,
    };
    let partitions: Vec<Partition> = (0..source.partitions).map(Partition).collect();
    let scene = Scene::new(source, Arc::new(schemas), view, clock.clone(), settings, None);
    for chunk in records.chunks(rng.random_range(1..3_000)) {
        scene.log.append(&scene.source.topic, chunk.to_vec()).unwrap();
        clock.advance_ms(rng.random_range(0..3));
    }
    let now_ms = clock.now_ms();
    let ends = oracle::ends(&scene);
    let disk = Disk::new(MemoryState::default(), None);
    let mut epoch = 0;
    let mut owner: Option<Owner> = None;
    let max_bytes = rng.random_range(200..400_000);
    for _ in 0..1_000_000 {
        let Some(running) = &mut owner else {
            epoch += 1;
            owner = Some(Owner::open(&scene, disk.clone(), Epoch(epoch)).map_err(|error| error.to_string())?);
            continue;
        };
        let partition = partitions.choose(&mut rng).copied().unwrap_or(Partition(0));
        let stepped = match rng.random_range(0..100) {
            0..45 => running.map(&scene, partition, rng.random_range(1..=max_bytes)).map(drop),
            45..80 => running.merge(&scene, partition).map(drop),
            80..84 => running.sweep(&scene),
            84..88 if running.is_commit_due(now_ms) => running.commit(&scene),
            88..99 => running.writer.step().map(drop),
            99 => {
                owner = None;
                continue;
            }
            _ => Ok(()),
        };
        stepped.map_err(|error| error.to_string())?;
        let read_all = partitions.iter().all(|partition| running.fold.lock().before(*partition).position >= ends.position(*partition));
        if read_all {
            break;
        }
    }
    let mut owner = owner.ok_or("no owner at the end")?;
    for round in 0..1_000_000 {
        // Also while what is left is written.
        if round < 100 && rng.random_bool(0.05) {
            epoch += 1;
            owner = Owner::open(&scene, disk.clone(), Epoch(epoch)).map_err(|error| error.to_string())?;
        }
        for partition in &partitions {
            owner.map(&scene, *partition, 1 << 20).map_err(|error| error.to_string())?;
            owner.merge(&scene, *partition).map_err(|error| error.to_string())?;
        }
        owner.go_live(&scene).map_err(|error| error.to_string())?;
        if owner.is_commit_due(now_ms) {
            owner.commit(&scene).map_err(|error| error.to_string())?;
        }
        owner.writer.step().map_err(|error| error.to_string())?;
        if owner.is_done(now_ms) {
            oracle::compare(&scene, &owner).map_err(|problem| format!("seed {seed}, {}: {problem}", view.name))?;
            return Ok(Ran { rows: oracle::counted(&scene), restarts: epoch - 1 });
        }
    }
    Err(format!("seed {seed}, {}: it does not come to rest: {}", view.name, owner.unfinished(now_ms)))
}
