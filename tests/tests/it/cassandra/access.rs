//! Who may come in.

use std::time::{Duration, Instant};

use refold_cassandra::{CassandraSettings, CassandraStore, TlsSettings};
use refold_processor::recovery::Recovery;
use refold_processor::store::{Registers, RowReader, RowWriter, StoreError};
use refold_processor::table::Epoch;
use refold_tests::services::cassandra::{Cassandra, Options};

use super::{counts, in_the_end, rows};

/// A wrong password is refused until somebody puts it right.
#[test]
fn a_password_is_given_and_a_wrong_one_is_refused() {
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
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    assert!(!error.to_string().contains("wrong") && !format!("{wrong:?}").contains("wrong"), "{error}");
    let nobody = CassandraSettings { user: None, password: None, ..settings };
    assert!(matches!(CassandraStore::connect(&nobody), Err(StoreError::Refused(_))));
}

/// Each right is taken and given back, and each time the error says what to grant.
#[test]
fn a_permission_that_is_missing_is_named_and_all_goes_on_once_it_is_granted() {
    let node = Cassandra::start_with(Options { passwords: true, ..Options::default() });
    in_the_end("the first user", || CassandraStore::connect(&node.settings("rights")));
    node.administrate(&["CREATE ROLE refold WITH PASSWORD = 'secret' AND LOGIN = true", "GRANT ALL ON KEYSPACE rights TO refold"]);
    let settings = CassandraSettings { user: Some("refold".into()), password: Some("secret".into()), ..node.settings("rights") };
    let store = in_the_end("a session", || CassandraStore::connect(&settings));
    let table = counts("governed");
    store.create_table(&table).unwrap();
    store.fence(&table, Epoch(1)).unwrap();
    let write = || store.write(&table, &rows(&table, &[("rust", 1, Some(1), 1)]));
    let read = || store.scan(&table).map(drop);
    write().unwrap();
    for (permission, call) in [("MODIFY", &write as &dyn Fn() -> Result<(), StoreError>), ("SELECT", &read)] {
        // Whoever makes a table may do everything with it.
        let revoke = |resource: &str| format!("REVOKE {permission} ON {resource} FROM refold");
        node.administrate(&[&revoke("KEYSPACE rights"), &revoke("TABLE rights.governed__v1")]);
        let deadline = Instant::now() + Duration::from_secs(60);
        let error = loop {
            match call() {
                Err(error) if error.recovery() != Recovery::Transient => break error,
                _ => assert!(Instant::now() < deadline, "{permission} is not missed"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(error.recovery(), Recovery::Operator, "{error}");
        let said = error.to_string();
        assert!(
            said.contains("User refold has no") && said.contains(&format!("GRANT {permission} ON TABLE rights.governed__v1 TO refold")),
            "{said}"
        );
        node.administrate(&[&format!("GRANT {permission} ON KEYSPACE rights TO refold")]);
        in_the_end("it is granted", &call);
    }
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
