//! Real Cassandra nodes, alone and in clusters.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use refold_cassandra::{CassandraSettings, CassandraStore};
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::host_filter::AllowListHostFilter;
use scylla::response::query_result::QueryRowsResult;
use tempfile::TempDir;

use super::{Process, folder};
use crate::program::free_port;

/// A node of its own, ended with this value. It can be killed and started again over the same folder and ports.
pub struct Cassandra {
    process: Process,
    data: TempDir,
    /// The port of its native protocol.
    pub port: u16,
    place: Place,
    options: Options,
}

/// A release of Cassandra.
#[derive(Clone, Copy, Debug, Default)]
pub enum Release {
    /// 4.1.
    V4_1,
    /// 5.0.
    #[default]
    V5_0,
}

/// Where a node is in its cluster.
#[derive(Clone, Debug)]
struct Place {
    address: String,
    storage_port: u16,
    /// The node that the others find each other through.
    seed: String,
    token: i64,
    most_heap: &'static str,
}

/// What a node is started with beyond the defaults.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which Cassandra it is.
    pub release: Release,
    /// Whether clients must say who they are. The first user is `cassandra`, with the same password.
    pub passwords: bool,
    /// Whether it answers only when its commit log is on disk. Otherwise the last tenth of a second is lost when it is killed.
    pub synced: bool,
    /// Whether clients must use TLS: a PKCS12 file with the node's key, and one with the authority of clients, both with this password.
    pub tls: Option<(PathBuf, PathBuf, String)>,
}

/// What Cassandra reaches for inside Java, from its own start script.
const OPENED: &[&str] = &[
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.io",
    "java.base/java.nio",
    "java.base/java.net",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/sun.nio.ch",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "jdk.management/com.sun.management.internal",
];
const EXPORTED: &[&str] = &[
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.util",
    "java.base/sun.nio.ch",
    "java.sql/java.sql",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.rmi/sun.rmi.transport.tcp",
    "jdk.attach/sun.tools.attach",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.compiler/com.sun.tools.javac.api",
    "jdk.compiler/com.sun.tools.javac.parser",
    "jdk.compiler/com.sun.tools.javac.tree",
    "jdk.compiler/com.sun.tools.javac.util",
];

const LOGBACK: &str = r#"<configuration>
  <appender name="FILE" class="ch.qos.logback.core.FileAppender">
    <file>FOLDER/cassandra.log</file>
    <encoder><pattern>%d %-5level %logger{0} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="FILE"/></root>
</configuration>
"#;

impl Cassandra {
    /// Starts a node.
    pub fn start() -> Cassandra {
        Cassandra::start_with(Options::default())
    }

    /// Starts a node with options.
    pub fn start_with(options: Options) -> Cassandra {
        Cassandra::start_at(free_port(), options)
    }

    /// The same, its native protocol at this port.
    pub fn start_at(port: u16, options: Options) -> Cassandra {
        let address = "127.0.0.1".to_owned();
        let place = Place { seed: address.clone(), address, storage_port: free_port(), token: 0, most_heap: "1g" };
        let mut node = Cassandra::launched(port, place, options);
        node.wait();
        node
    }

    /// Starts three nodes that share the ring evenly, the first being who the others ask for each other.
    pub fn start_cluster() -> [Cassandra; 3] {
        let (port, storage_port) = (free_port(), free_port());
        let third = i64::MAX / 3 * 2;
        let nodes = [(1, -third), (2, 0), (3, third)].map(|(number, token)| {
            let (address, seed) = (format!("127.0.0.{number}"), "127.0.0.1".to_owned());
            let place = Place { address, storage_port, seed, token, most_heap: "512m" };
            // One after the other: who joins must find who is there, and ends when those have no time for it.
            for _ in 0..3 {
                let mut node = Cassandra::launched(port, place.clone(), Options { synced: true, ..Options::default() });
                if node.process.is_up_at(&place.address, port) {
                    return node;
                }
            }
            panic!("node {number} does not join");
        });
        nodes.iter().for_each(Cassandra::wait_for_the_others);
        nodes
    }

    /// A node takes requests before it has heard of all others, and a driver that asks it then does not know them either.
    fn wait_for_the_others(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        let are_both = |answer: QueryRowsResult| {
            let peers = answer.rows::<(Option<Vec<String>>,)>().unwrap();
            peers.filter(|peer| matches!(peer, Ok((Some(_),)))).count() == 2
        };
        while !self.try_to_ask("SELECT tokens FROM system.peers").is_ok_and(are_both) {
            assert!(Instant::now() < deadline, "{} does not hear of the others:\n{}", self.place.address, self.logged());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn launched(port: u16, place: Place, options: Options) -> Cassandra {
        let data = data_folder();
        write_configuration(data.path(), port, &place, &options);
        let process = launch(data.path(), &place, &options);
        Cassandra { process, data, port, place, options }
    }

    fn wait(&mut self) {
        self.process.wait_for_address(&self.place.address, self.port);
    }

    /// Its process, to send signals to.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Ends it without a word, as a power cut does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again over what it left.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(self.data.path(), &self.place, &self.options);
        self.wait();
    }

    /// What this node, and no other one, answers to a query about itself.
    pub fn ask(&self, cql: &str) -> QueryRowsResult {
        self.try_to_ask(cql).unwrap_or_else(|error| panic!("{cql}: {error}"))
    }

    /// Carries statements out as the first user of a node with passwords.
    pub fn administrate(&self, statements: &[&str]) {
        let address: SocketAddr = format!("{}:{}", self.place.address, self.port).parse().unwrap();
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let session = SessionBuilder::new().known_node_addr(address).user("cassandra", "cassandra").build().await.unwrap();
            for statement in statements {
                session.query_unpaged(*statement, &[]).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
            }
        });
    }

    fn try_to_ask(&self, cql: &str) -> Result<QueryRowsResult, Box<dyn Error>> {
        let address: SocketAddr = format!("{}:{}", self.place.address, self.port).parse().unwrap();
        let filter = AllowListHostFilter::new([address]).unwrap();
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let builder = SessionBuilder::new().known_node_addr(address).host_filter(Arc::new(filter));
            let session = builder.build().await?;
            Ok(session.query_unpaged(cql, &[]).await?.into_rows_result()?)
        })
    }

    /// What it logged: warnings and errors.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(self.data.path().join("cassandra.log")).unwrap_or_default()
    }

    /// Settings for a store in one of its keyspaces.
    pub fn settings(&self, keyspace: &str) -> CassandraSettings {
        let (user, password) = match self.options.passwords {
            true => (Some("cassandra".to_owned()), Some("cassandra".to_owned())),
            false => (None, None),
        };
        CassandraSettings {
            contact_points: vec![format!("{}:{}", self.place.address, self.port)],
            keyspace: keyspace.into(),
            user,
            password,
            ..CassandraSettings::default()
        }
    }

    /// A store in one of its keyspaces.
    pub fn store(&self, keyspace: &str) -> CassandraStore {
        CassandraStore::connect(&self.settings(keyspace)).unwrap()
    }
}

/// A folder that is removed with its node. One that tests share lives as long as their process and is left behind; the next one removes it.
fn data_folder() -> TempDir {
    const PREFIX: &str = "refold-cassandra-";
    for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir().unwrap()
}

fn write_configuration(data: &Path, port: u16, place: &Place, options: &Options) {
    let at = data.display();
    let Place { address, storage_port, seed, .. } = place;
    let authenticator = if options.passwords { "PasswordAuthenticator" } else { "AllowAllAuthenticator" };
    let authorizer = if options.passwords { "CassandraAuthorizer" } else { "AllowAllAuthorizer" };
    let encryption = options.tls.as_ref().map_or(String::new(), |(keys, authorities, password)| {
        format!(
            "client_encryption_options: {{enabled: true, optional: false, keystore: '{}', keystore_password: '{password}', \
             require_client_auth: true, truststore: '{}', truststore_password: '{password}', store_type: PKCS12}}\n",
            keys.display(),
            authorities.display()
        )
    });
    let commit_log = if options.synced { "commitlog_sync: batch" } else { "commitlog_sync: periodic\ncommitlog_sync_period: 10000ms" };
    let yaml = format!(
        "cluster_name: refold-test\n\
         num_tokens: 1\n\
         partitioner: org.apache.cassandra.dht.Murmur3Partitioner\n\
         {commit_log}\n\
         commitlog_directory: {at}/commitlog\n\
         data_file_directories: [{at}/data]\n\
         saved_caches_directory: {at}/saved_caches\n\
         hints_directory: {at}/hints\n\
         cdc_raw_directory: {at}/cdc\n\
         listen_address: {address}\n\
         rpc_address: {address}\n\
         auto_bootstrap: false\n\
         native_transport_port: {port}\n\
         storage_port: {storage_port}\n\
         endpoint_snitch: SimpleSnitch\n\
         seed_provider: [{{class_name: org.apache.cassandra.locator.SimpleSeedProvider, parameters: [{{seeds: \"{seed}:{storage_port}\"}}]}}]\n\
         authenticator: {authenticator}\n\
         authorizer: {authorizer}\n\
         permissions_validity: 100ms\n\
         auto_snapshot: false\n\
         {encryption}"
    );
    std::fs::write(data.join("cassandra.yaml"), yaml).unwrap();
    std::fs::write(data.join("logback.xml"), LOGBACK.replace("FOLDER", &at.to_string())).unwrap();
}

fn launch(data: &Path, place: &Place, options: &Options) -> Process {
    let name = match options.release {
        Release::V4_1 => "cassandra-4.1",
        Release::V5_0 => "cassandra",
    };
    let lib = folder(name).join("lib");
    let at = data.display();
    let agent = std::fs::read_dir(&lib)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("jamm-")))
        .unwrap();
    let mut arguments: Vec<String> = [
        "-Xms512m",
        "-XX:+UseG1GC",
        "-Djava.security.manager=allow",
        "-Djdk.attach.allowAttachSelf=true",
        "-Dcassandra-foreground=yes",
        "-Dcassandra.ring_delay_ms=1",
        "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        "-Dcassandra.superuser_setup_delay_ms=0",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.push(format!("-Xmx{}", place.most_heap));
    arguments.push(format!("-Dcassandra.initial_token={}", place.token));
    arguments.push(format!("-Dcassandra.config=file://{at}/cassandra.yaml"));
    arguments.push(format!("-Dlogback.configurationFile={at}/logback.xml"));
    arguments.push(format!("-Dcassandra.storagedir={at}"));
    arguments.push(format!("-javaagent:{}", agent.display()));
    arguments.extend(OPENED.iter().flat_map(|package| ["--add-opens".to_owned(), format!("{package}=ALL-UNNAMED")]));
    arguments.extend(EXPORTED.iter().flat_map(|package| ["--add-exports".to_owned(), format!("{package}=ALL-UNNAMED")]));
    arguments.extend(["-cp".to_owned(), format!("{}/*", lib.display()), "org.apache.cassandra.service.CassandraDaemon".to_owned()]);
    Process::start("java", &arguments, data, &data.join("stdout.log"))
}
