//! Kafka brokers of its own, alone and in clusters: each is a controller too, and has a plain listener, one that asks for a password, and one
//! with TLS.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use refold_kafka::{KafkaLog, KafkaSettings};
use refold_processor::position::Partition;
use tempfile::TempDir;

use super::{Process, folder};
use crate::program::free_port;

/// The user that the listener with passwords knows.
pub const USER: &str = "refold";
/// Its password.
pub const PASSWORD: &str = "correct horse";

/// A broker, which can be ended and started again over the same folder and ports.
pub struct Kafka {
    process: Option<Process>,
    folder: TempDir,
    jars: PathBuf,
    port: u16,
    password_port: u16,
    tls_port: u16,
}

impl Kafka {
    /// Formats a folder and starts a broker over it.
    pub fn start() -> Kafka {
        Kafka::start_at(free_port())
    }

    /// The same, its plain listener at this port.
    pub fn start_at(port: u16) -> Kafka {
        let mut kafka = Kafka::formatted(1, &[free_port()], port);
        kafka.start_again();
        kafka
    }

    /// Starts three brokers of one cluster: every topic has a copy on each, and an append is acknowledged when two have it.
    pub fn start_cluster() -> [Kafka; 3] {
        let controllers = [free_port(), free_port(), free_port()];
        let mut brokers = [1, 2, 3].map(|number| Kafka::formatted(number, &controllers, free_port()));
        // None is up before most are.
        brokers.iter_mut().for_each(Kafka::launch);
        brokers.iter_mut().for_each(Kafka::wait);
        brokers
    }

    fn formatted(number: usize, controllers: &[u16], port: u16) -> Kafka {
        let folder_of_broker = tempfile::tempdir().unwrap();
        let (password_port, tls_port) = (free_port(), free_port());
        let kafka = Kafka { process: None, folder: folder_of_broker, jars: folder("kafka").join("lib"), port, password_port, tls_port };
        make_certificate(kafka.folder.path());
        std::fs::write(kafka.settings(), kafka.server_properties(number, controllers)).unwrap();
        let settings = kafka.settings();
        kafka.run_tool("kafka.tools.StorageTool", &["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", settings.to_str().unwrap()]);
        kafka
    }

    /// Runs one of the tools that come with it.
    fn run_tool(&self, class: &str, arguments: &[&str]) {
        let done = Command::new("java")
            .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", &self.class_path(), class])
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn settings(&self) -> PathBuf {
        self.folder.path().join("server.properties")
    }

    fn class_path(&self) -> String {
        format!("{}/*", self.jars.display())
    }

    fn server_properties(&self, number: usize, controllers: &[u16]) -> String {
        let Kafka { port, password_port, tls_port, .. } = self;
        let folder = self.folder.path().display();
        let controller = controllers[number - 1];
        let voters: Vec<String> = (1..).zip(controllers).map(|(number, port)| format!("{number}@127.0.0.1:{port}")).collect();
        let (voters, copies, enough) = (voters.join(","), controllers.len(), controllers.len() / 2 + 1);
        let jaas = format!("org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";");
        format!(
            "process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
default.replication.factor={copies}
min.insync.replicas={enough}
listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{password_port},SSL://127.0.0.1:{tls_port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{password_port},SSL://127.0.0.1:{tls_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
sasl.enabled.mechanisms=PLAIN
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:ANONYMOUS
listener.name.sasl_plaintext.plain.sasl.jaas.config={jaas}
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
log.dirs={folder}/log
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={copies}
transaction.state.log.num.partitions=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.backoff.ms=100
log.cleaner.dedupe.buffer.size=2000000
num.network.threads=2
num.io.threads=4
"
        )
    }

    /// The address of the plain listener.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of the listener that asks for a password.
    pub fn brokers_with_password(&self) -> String {
        format!("127.0.0.1:{}", self.password_port)
    }

    /// The address of the listener with TLS.
    pub fn brokers_with_tls(&self) -> String {
        format!("localhost:{}", self.tls_port)
    }

    /// The certificate that its clients have to trust.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// Starts it over the same folder and ports, and waits until it answers.
    pub fn start_again(&mut self) {
        self.launch();
        self.wait();
    }

    fn launch(&mut self) {
        let arguments =
            ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-cp", &self.class_path(), "kafka.Kafka", self.settings().to_str().unwrap()]
                .map(str::to_owned);
        self.process = Some(Process::start("java", &arguments, self.folder.path(), &self.folder.path().join("kafka.log")));
    }

    fn wait(&mut self) {
        let port = self.port;
        self.process().wait_for_port(port);
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// The id of its process.
    pub fn process_id(&mut self) -> String {
        self.process().id().to_owned()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process().kill();
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) {
        self.process().signal("-TERM");
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.process().is_running() {
            assert!(Instant::now() < deadline, "the broker does not end:\n{}", self.process().said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes its controller forget it, while it runs: it describes its cluster without any broker from now on, until it is started again.
    pub fn unregister(&self) {
        self.run_tool("org.apache.kafka.tools.ClusterTool", &["unregister", "--bootstrap-server", &self.brokers(), "--id", "1"]);
    }

    /// Takes a right to topics whose names begin with `prefix` from [`USER`]; the other rights stay.
    pub fn deny(&self, operation: &str, prefix: &str) {
        // A resource with any rule is closed to whoever no rule allows.
        self.change_rights(&["--add", "--allow-principal"], "All", prefix);
        self.change_rights(&["--add", "--deny-principal"], operation, prefix);
    }

    /// Gives it back.
    pub fn permit(&self, operation: &str, prefix: &str) {
        self.change_rights(&["--remove", "--force", "--deny-principal"], operation, prefix);
    }

    fn change_rights(&self, change: &[&str], operation: &str, prefix: &str) {
        let (brokers, user) = (self.brokers(), format!("User:{USER}"));
        let mut arguments = vec!["--bootstrap-server", brokers.as_str()];
        arguments.extend(change);
        arguments.extend([user.as_str(), "--operation", operation, "--topic", prefix, "--resource-pattern-type", "prefixed"]);
        self.run_tool("org.apache.kafka.tools.AclCommand", &arguments);
    }

    /// Settings of a log on it, for [`USER`].
    pub fn settings_with_password(&self, password: &str) -> KafkaSettings {
        let properties =
            [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "PLAIN"), ("sasl.username", USER), ("sasl.password", password)];
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        KafkaSettings { brokers: self.brokers_with_password(), properties, ..KafkaSettings::default() }
    }

    /// Changes a byte of what its disk has of partition 0 of a topic, where `text` stands, while it is stopped.
    pub fn damage(&mut self, topic: &str, text: &str) {
        self.stop();
        let segment = self.folder.path().join(format!("log/{topic}-0/00000000000000000000.log"));
        let mut bytes = std::fs::read(&segment).unwrap();
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        self.start_again();
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: &str) {
        assert!(self.process().signal(signal));
    }

    /// Settings of a log on it.
    pub fn log_settings(&self) -> KafkaSettings {
        KafkaSettings { brokers: self.brokers(), ..KafkaSettings::default() }
    }

    /// A log on it.
    pub fn log(&self) -> KafkaLog {
        KafkaLog::open(self.log_settings()).unwrap()
    }

    /// A client's configuration.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers());
        config
    }

    /// The consumer groups that the cluster knows.
    pub fn groups(&self) -> Vec<String> {
        let client: BaseConsumer = self.client().create().unwrap();
        let list = client.fetch_group_list(None, Duration::from_secs(10)).unwrap();
        list.groups().iter().map(|group| group.name().to_owned()).collect()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// Creates a topic with properties of its own.
    pub fn create_topic(&self, topic: &str, properties: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
        new.config = properties.to_vec();
        let results = block_on(self.admin().create_topics([&new], &options())).unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    /// Gives a topic more partitions.
    pub fn expand_topic(&self, topic: &str, partitions: usize) {
        let results = block_on(self.admin().create_partitions(&[NewPartitions::new(topic, partitions)], &options())).unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    /// The number of the broker that leads a partition, from 1 on.
    pub fn leader(&self, topic: &str, partition: Partition) -> usize {
        let metadata = self.admin().inner().fetch_metadata(Some(topic), Duration::from_secs(30)).unwrap();
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        partitions.filter(|found| found.id() == partition.0 as i32).map(|found| found.leader()).next().unwrap().try_into().unwrap()
    }

    /// Deletes topics; those that are not there stay so.
    pub fn delete_topics(&self, topics: &[&str]) {
        block_on(self.admin().delete_topics(topics, &options())).unwrap();
    }

    /// The settings of a topic, `name=value` a line.
    pub fn topic_config(&self, topic: &str) -> String {
        let described = block_on(self.admin().describe_configs(&[ResourceSpecifier::Topic(topic)], &options())).unwrap();
        let entries = described.into_iter().flat_map(|described| described.unwrap().entries);
        entries.map(|entry| format!("{}={}\n", entry.name, entry.value.unwrap_or_default())).collect()
    }

    /// Makes a partition forget its records below `to`.
    pub fn delete_records(&self, topic: &str, partition: u32, to: u64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition as i32, Offset::Offset(to as i64)).unwrap();
        let deleted = block_on(self.admin().delete_records(&offsets, &options())).unwrap();
        assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
    }
}

fn options() -> AdminOptions {
    let timeout = Some(Duration::from_secs(30));
    AdminOptions::new().operation_timeout(timeout).request_timeout(timeout)
}

/// A certificate for `localhost` that signs itself, and the file with its key that a broker wants.
fn make_certificate(folder: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(folder)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success(), "openssl cannot make a certificate");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    std::fs::write(folder.join("broker.pem"), read("key.pem") + &read("certificate.pem")).unwrap();
}
