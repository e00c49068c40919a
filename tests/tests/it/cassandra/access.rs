//! Who may come in.

use refold_cassandra::{CassandraSettings, CassandraStore, TlsSettings};
use refold_processor::store::{Registers, StoreError};
use refold_tests::services::cassandra::{Cassandra, Options};

use super::in_the_end;

/// A wrong password is no reason to try again.
#[test]
fn a_password_is_given_and_a_wrong_one_is_refused_for_good() {
    let node = Cassandra::start_with(Options { passwords: true, ..Options::default() });
    let settings = node.settings("access");
    // The first user is made a moment after the node has begun to listen.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let store = loop {
        match CassandraStore::connect(&settings) {
            Ok(store) => break store,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    };
    store.compare_and_set("key", None, Some("value")).unwrap();
    let wrong = CassandraSettings { password: Some("wrong".into()), ..settings.clone() };
    let error = CassandraStore::connect(&wrong).err().unwrap();
    assert!(matches!(error, StoreError::Broken(_)), "{error}");
    assert!(!error.to_string().contains("wrong") && !format!("{wrong:?}").contains("wrong"), "{error}");
    let nobody = CassandraSettings { user: None, password: None, ..settings };
    assert!(matches!(CassandraStore::connect(&nobody), Err(StoreError::Broken(_))));
}

/// Before anything is sent.
#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let good = CassandraSettings::default();
    let cases = [
        (CassandraSettings { contact_points: vec![], ..good.clone() }, "contact_points"),
        (CassandraSettings { keyspace: "with space".into(), ..good.clone() }, "keyspace"),
        (CassandraSettings { batch_rows: 0, ..good.clone() }, "batch_rows"),
        (CassandraSettings { user: Some("me".into()), ..good.clone() }, "password"),
        (CassandraSettings { batches_in_flight: 0, ..good }, "batches_in_flight"),
    ];
    for (settings, named) in cases {
        let error = CassandraStore::connect(&settings).err().unwrap();
        assert!(matches!(&error, StoreError::Broken(text) if text.contains(named)), "{error}");
    }
}

/// Both sides show a certificate, and each refuses one of another authority.
#[test]
fn connections_are_encrypted_and_both_sides_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let run = |command: &str| {
        let ran = std::process::Command::new("sh").args(["-ec", command]).current_dir(folder.path()).output().unwrap();
        assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    for authority in ["ours", "theirs"] {
        run(&format!(
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"
        ));
    }
    let address = "127.0.0.1";
    for (who, authority) in [("node", "ours"), ("client", "ours"), ("stranger", "theirs")] {
        run(&format!(
            "openssl req -newkey rsa:2048 -nodes -subj /CN={who} -addext subjectAltName=IP:{address} -keyout {who}.key -out {who}.csr"
        ));
        run(&format!(
            "openssl x509 -req -in {who}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -copy_extensions copy -days 2 -out {who}.pem"
        ));
    }
    run("openssl pkcs12 -export -in node.pem -inkey node.key -name node -passout pass:secret -out node.p12");
    run("keytool -importcert -noprompt -alias ours -file ours.pem -storetype PKCS12 -keystore authorities.p12 -storepass secret");

    let tls = Some((at("node.p12"), at("authorities.p12"), "secret".to_owned()));
    let node = Cassandra::start_with(Options { tls, ..Options::default() });
    let plain = node.settings("access");
    let with = |ca: &str, who: Option<&str>| {
        let certificate_file = who.map(|who| at(&format!("{who}.pem")));
        let key_file = who.map(|who| at(&format!("{who}.key")));
        let tls = Some(TlsSettings { ca_file: Some(at(ca)), certificate_file, key_file });
        CassandraStore::connect(&CassandraSettings { tls, ..plain.clone() })
    };
    in_the_end("a session", || with("ours.pem", Some("client"))).compare_and_set("key", None, Some("value")).unwrap();
    let refused = |what: &str, connected: Result<CassandraStore, StoreError>| {
        let said = connected.err().unwrap_or_else(|| panic!("{what} is let in")).to_string();
        assert!(!said.contains("no answer in time"), "{what}: {said}");
        println!("{what}: {said}");
    };
    refused("who does not encrypt", CassandraStore::connect(&plain));
    refused("who trusts another authority", with("theirs.pem", Some("client")));
    refused("who is of another authority", with("ours.pem", Some("stranger")));
    refused("who shows no certificate", with("ours.pem", None));
    let missing = with("nowhere.pem", None).err().unwrap();
    assert!(matches!(&missing, StoreError::Broken(text) if text.contains("nowhere.pem")), "{missing}");
}
