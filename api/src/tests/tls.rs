//! TLS of the listener's own.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::{X509, X509NameBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::limits::get;
use super::*;

/// Writes a key and a certificate for `name` that it signs itself.
fn certificate(folder: &Path, name: &str) -> TlsSettings {
    let key = PKey::from_rsa(Rsa::generate(2_048).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let settings = TlsSettings { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
    std::fs::write(&settings.certificate, builder.build().to_pem().unwrap()).unwrap();
    std::fs::write(&settings.key, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    settings
}

/// The name in the certificate that is shown, and the answer to a request.
async fn ask(address: SocketAddr, path: &str) -> (String, String) {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    let ssl = connector.build().configure().unwrap().into_ssl("localhost").unwrap();
    let mut stream = tokio_openssl::SslStream::new(ssl, TcpStream::connect(address).await.unwrap()).unwrap();
    Pin::new(&mut stream).connect().await.unwrap();
    let shown = stream.ssl().peer_certificate().unwrap();
    let name = shown.subject_name().entries().next().unwrap().data().to_string().unwrap();
    stream.write_all(get(path).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    (name, String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_over_tls_and_a_new_certificate_is_shown_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let settings = certificate(folder.path(), "first");
    let tls = Arc::new(Tls::new(&settings).unwrap());
    let world = world(ApiSettings { limits: Limits { head_for: Duration::from_millis(300), ..Limits::default() }, ..open() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(serve(world.state.clone(), listener, Some(tls.clone()), std::future::pending()));
    let (name, answer) = ask(address, "/healthz").await;
    assert_eq!((name.as_str(), answer.starts_with("HTTP/1.1 200")), ("first", true), "{answer}");
    // Who speaks no TLS, and who says nothing at all.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(get("/healthz").as_bytes()).await.unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    for stream in [&mut plain, &mut silent] {
        let mut said = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut said)).await.expect("it is kept open");
        assert!(!String::from_utf8_lossy(&said).contains("HTTP/1.1 200"));
    }
    certificate(folder.path(), "second");
    let shown = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let (name, answer) = ask(address, "/healthz").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            if name == "second" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    shown.await.expect("the first certificate is shown for ever");
    std::fs::write(&settings.key, "no key").unwrap();
    tls.reread();
    assert_eq!(ask(address, "/healthz").await.0, "second", "a broken file changes nothing");
    assert!(Tls::new(&settings).err().unwrap().to_string().contains("key.pem"));
    served.abort();
}
