#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};

use refold_processor::source::load_sources;

use super::*;

const START_US: i64 = 1_790_000_000_000_000;
const PACE: Pace = Pace { first: 0, origin_us: START_US, rate: 1000 };

/// A clock that stands still but for the pauses.
struct Hand(AtomicI64);

impl Timer for Hand {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    fn pause(&self, time: Duration) {
        self.0.fetch_add(time.as_millis().max(1) as i64, Ordering::SeqCst);
    }
}

fn hand(seconds_after_start: i64) -> Arc<Hand> {
    Arc::new(Hand(AtomicI64::new(START_US / 1000 + seconds_after_start * 1000)))
}

fn encoder() -> Encoder {
    Encoder::new(&load_sources("../schemas".as_ref()).unwrap()["tweets"], Some(7)).unwrap()
}

fn settings(rate: u64) -> GenerateSettings {
    GenerateSettings { rate, seed: 5, count: None, backlog: None }
}

fn source(settings: &GenerateSettings, timer: &Arc<Hand>) -> Generate {
    Generate::new(settings.clone(), encoder(), timer.clone()).unwrap()
}

/// The next pull that has events, with the point after it.
fn pull(source: &mut Generate, max: usize) -> (Vec<NewRecord>, String) {
    loop {
        match source.next(max, Duration::from_millis(200)).unwrap() {
            Pull::Events { records, resume, .. } if !records.is_empty() => return (records, resume),
            Pull::End => return (Vec::new(), String::new()),
            _ => {}
        }
    }
}

fn event_times(posts: impl Iterator<Item = Post>, count: usize) -> Vec<i64> {
    posts.take(count).map(|post| post.timestamp_ms).collect()
}

#[test]
fn the_same_seed_makes_the_same_bytes_for_ever() {
    let digest = |seed| {
        let (encoder, mut bytes) = (encoder(), Vec::new());
        for post in Generator::new(seed).posts(PACE).take(5000) {
            append(&encoder, &post, &mut bytes);
        }
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes))
    };
    assert_eq!(digest(1), GOLDEN, "the posts of a seed changed: every figure measured with them loses its meaning");
    assert_ne!(digest(2), GOLDEN);
}

const GOLDEN: &str = "6451a9347e2d8690";

#[test]
fn posts_are_as_uneven_as_real_ones() {
    const COUNT: usize = 200_000;
    let posts: Vec<Post> = Generator::new(3).posts(PACE).take(COUNT).collect();
    let mean = |total: usize| total as f64 / COUNT as f64;

    let chars = mean(posts.iter().map(|post| post.tweet.chars().count()).sum());
    assert!((117.0..137.0).contains(&chars), "{chars} characters");
    let tags: Vec<&str> = posts.iter().flat_map(|post| post.tweet.split(' ')).filter(|word| word.starts_with('#')).collect();
    let per_post = mean(tags.len());
    assert!((0.54..0.66).contains(&per_post), "{per_post} hashtags a post");
    let distinct: HashSet<String> = tags.iter().map(|tag| tag.to_lowercase()).collect();
    assert!(distinct.len() > 15_000, "{} hashtags", distinct.len());
    for script in [('а', 'я'), ('ا', 'ي'), ('क', 'ह'), ('一', '龥'), ('가', '힣')] {
        let has_script = |post: &&Post| post.tweet.chars().any(|c| (script.0..=script.1).contains(&c));
        let share = mean(posts.iter().filter(has_script).count());
        assert!((0.02..0.12).contains(&share), "{share} of the posts have {script:?}");
    }

    let made = |index: usize| PACE.time_us(index as u64) / 1000;
    let late = posts.iter().enumerate().filter(|(index, post)| made(*index) - post.timestamp_ms > 10_000).count();
    let late = mean(late);
    assert!((0.0035..0.0065).contains(&late), "{late} late posts");
    assert!(posts.iter().enumerate().all(|(index, post)| (0..=134_000).contains(&(made(index) - post.timestamp_ms))));
    let ids: HashSet<i64> = posts.iter().map(|post| post.tweetid).collect();
    let repeated = mean(COUNT - ids.len());
    assert!((0.0012..0.0028).contains(&repeated), "{repeated} repeated posts");

    let mut by_author: HashMap<i64, u32> = HashMap::new();
    posts.iter().for_each(|post| *by_author.entry(post.userid).or_default() += 1);
    assert!(by_author.len() > 20_000 && by_author.values().max() > Some(&20), "some authors write far more than others");
}

#[test]
fn hashtags_rise_and_are_gone() {
    // Two hours at 50 posts a second, in slots of five minutes.
    let pace = Pace { rate: 50, ..PACE };
    let mut slots: HashMap<String, Vec<u32>> = HashMap::new();
    for (index, post) in Generator::new(8).posts(pace).take(360_000).enumerate() {
        for tag in post.tweet.split(' ').filter(|word| word.starts_with('#')) {
            slots.entry(tag.to_lowercase()).or_insert_with(|| vec![0; 24])[index / 15_000] += 1;
        }
    }
    let bursts = slots.values().filter(|slots| {
        let quiet = slots.iter().filter(|count| **count <= 5).count();
        slots.iter().any(|count| *count > 80) && quiet >= 14
    });
    let bursts = bursts.count();
    assert!((5..40).contains(&bursts), "{bursts} hashtags rose and fell");
}

#[test]
fn records_are_what_the_encoder_makes_of_the_post() {
    let timer = hand(0);
    let (records, _) = pull(&mut source(&settings(100), &timer), 1);
    let mut post = Post::default();
    Generator::new(5).write(0, &Pace { rate: 100, ..PACE }, &mut post);
    let json = serde_json::json!({
        "userid": post.userid, "username": post.username, "timestamp": post.timestamp_ms, "tweetid": post.tweetid, "tweet": post.tweet
    });
    assert_eq!(records, [encoder().encode(&json).unwrap()]);
}

#[test]
fn real_time_is_paced_by_the_clock() {
    let timer = hand(0);
    let mut source = source(&settings(100), &timer);
    let mut made = 0;
    while timer.now_ms() < START_US / 1000 + 60_000 {
        made += pull(&mut source, 1000).0.len();
    }
    let seconds = (timer.now_ms() - START_US / 1000) as usize;
    assert!(made.abs_diff(seconds / 10) <= 2, "{made} posts in {seconds} ms");
}

#[test]
fn a_backlog_leads_up_to_now_and_real_time_goes_on_from_there() {
    let timer = hand(3600);
    let backlog = Some(Backlog { span_us: 3_600_000_000, rate: 2 });
    let mut source = source(&GenerateSettings { backlog, count: Some(7201 + 500), ..settings(100) }, &timer);
    let mut history = 0;
    while timer.now_ms() == START_US / 1000 + 3_600_000 {
        assert!(!source.is_at_present() || history >= 7201, "after {history} posts");
        history += pull(&mut source, 1000).0.len();
    }
    assert!(source.is_at_present());
    assert!((7201..7301).contains(&history), "{history} posts without a pause");
    let mut all = history;
    loop {
        let more = pull(&mut source, 1000).0.len();
        if more == 0 {
            break;
        }
        all += more;
    }
    assert_eq!(all, 7701, "the count is for both");
    let seconds = (timer.now_ms() - START_US / 1000) / 1000 - 3600;
    assert!((4..7).contains(&seconds), "500 posts at 100 a second took {seconds} s");
    assert!(source.is_at_present());
    timer.pause(Duration::from_secs(30));
    assert!(!source.is_at_present(), "posts of half a minute are due");
}

#[test]
fn after_a_restart_the_posts_are_the_same_at_every_point() {
    let backlog = Some(Backlog { span_us: 600_000_000, rate: 1 });
    let settings = GenerateSettings { backlog, count: Some(700), ..settings(10) };
    let timer = hand(0);
    let mut straight = source(&settings, &timer);
    let (mut records, mut points) = (Vec::new(), Vec::new());
    loop {
        match straight.next(7, Duration::from_millis(200)).unwrap() {
            Pull::Events { records: more, resume, .. } => {
                records.push(more);
                points.push(resume);
            }
            Pull::Idle => {}
            Pull::End => break,
        }
    }
    assert_eq!(records.iter().map(Vec::len).sum::<usize>(), 700);
    // Made once, because making the words takes the longest.
    let (generator, encoder, later) = (Generator::new(5), encoder(), hand(86_400));
    for (point, interrupted) in points.iter().zip(records.iter().skip(1)).filter(|(_, records)| !records.is_empty()) {
        // A day later, at another rate: an interrupted batch is made again all the same.
        let mut again = Generate {
            settings: GenerateSettings { rate: 77, ..settings.clone() },
            encoder: encoder.clone(),
            timer: later.clone(),
            generator: generator.clone(),
            state: None,
            again_until: 0,
            post: Post::default(),
        };
        again.resume(point, interrupted.len() as u64).unwrap();
        assert_eq!(&pull(&mut again, interrupted.len()).0, interrupted);
    }
}

#[test]
fn a_day_off_is_left_out_or_filled_as_the_backlog_was() {
    let event_time = |records: &[NewRecord]| {
        let schema = apache_avro::Schema::parse_str(LAYOUT).unwrap();
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
        let value = reader.read_value(&mut &records[0].value[5..]).unwrap();
        let apache_avro::types::Value::Record(fields) = value else { panic!("not a record") };
        let apache_avro::types::Value::TimestampMillis(time) = fields[2].1 else { panic!("not a time") };
        time
    };
    let (_, point) = pull(&mut source(&settings(100), &hand(0)), 1);
    let later = hand(86_400);
    let mut left_out = source(&settings(100), &later);
    left_out.resume(&point, 0).unwrap();
    assert!(later.now_ms() - event_time(&pull(&mut left_out, 10).0) < 200_000);

    let backlog = Some(Backlog { span_us: 2 * 86_400_000_000, rate: 1 });
    let mut filled = source(&GenerateSettings { backlog, ..settings(100) }, &later);
    filled.resume(&point, 0).unwrap();
    assert!(event_time(&pull(&mut filled, 10).0) - START_US / 1000 < 200_000);
    let mut history = 10;
    while later.now_ms() == START_US / 1000 + 86_400_000 {
        history += pull(&mut filled, 10_000).0.len();
    }
    assert!((86_400..86_600).contains(&history), "{history} posts fill the day");
}

#[test]
fn another_schema_is_refused() {
    let orders = Encoder::new(&load_sources("../tests/applications/shop".as_ref()).unwrap()["orders"], None).unwrap();
    let refused = Generate::new(settings(1), orders, hand(0)).err().unwrap().to_string();
    assert!(refused.contains("source orders has order_id") && refused.contains("jsonl:FILE"), "{refused}");
}

#[test]
fn event_times_follow_the_pace() {
    let times = event_times(Generator::new(1).posts(Pace { rate: 1, ..PACE }), 1000);
    let in_order = times.windows(2).filter(|pair| pair[0] <= pair[1]).count();
    assert!((500..1000).contains(&in_order), "{in_order} of 999 neighbours are in order: jitter, but a pace");
}

/// A figure for the log of a run, not a limit: machines differ.
#[test]
fn the_speed_is_told() {
    let timer = hand(1_000_000);
    let backlog = Some(Backlog { span_us: 1_000_000_000_000, rate: 1000 });
    let mut source = source(&GenerateSettings { backlog, ..settings(1) }, &timer);
    let started = std::time::Instant::now();
    let (mut posts, mut bytes) = (0, 0);
    while posts < 400_000 {
        let (records, _) = pull(&mut source, 8192);
        posts += records.len();
        bytes += records.iter().map(|record| record.value.len()).sum::<usize>();
    }
    let rate = posts as f64 / started.elapsed().as_secs_f64();
    writeln!(std::io::stderr(), "generated {rate:.0} posts/s of {} bytes", bytes / posts).unwrap();
    assert!(bytes / posts > 100);
}
