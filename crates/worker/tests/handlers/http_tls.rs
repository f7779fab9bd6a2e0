//! TLS and HTTP/2, against a server made of the libraries' own server halves.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use qfleet_manifest::handler::HttpHandler;
use qfleet_model::outcome::Scope;
use qfleet_testkit::{Answer, Certificates, Receiver, Scratch};
use qfleet_worker::handler::{Ended, HandlerContext, Health, open};
use reqwest::header::HeaderMap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::given::{
    IntoSettings, PAYLOAD, Told, context, deliver, http, is_complete, opened, reason, result, snooze,
};

fn untrusted(ended: &Ended) {
    assert_eq!(snooze(ended), (60, Scope::Endpoint), "{ended:?}");
    assert_eq!(ended.health, Health::Trip { alert: "tls" });
    assert_eq!(reason(ended).class.as_deref(), Some("tls"), "{ended:?}");
}

fn acceptor(certificates: &Certificates, protocol: &[u8], wants_certificate: bool) -> TlsAcceptor {
    let chain = |path: &Path| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(path).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if wants_certificate {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(chain(&certificates.ca));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(&certificates.key).unwrap();
    let mut config = builder.with_single_cert(chain(&certificates.cert), key).unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Takes TLS off and hands everything to a receiver.
async fn in_front_of(receiver: &Receiver, acceptor: TlsAcceptor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let behind = ("127.0.0.1", receiver.port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut receiver = TcpStream::connect(behind).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut receiver).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_certificate_of_a_known_authority_is_good_for_its_name_only() {
    let scratch = Scratch::new();
    let certificates = Certificates::in_dir(scratch.path());
    let receiver = Receiver::start(|_| Answer::ok());
    let port = in_front_of(&receiver, acceptor(&certificates, b"http/1.1", false)).await.port();
    let trusting = |url: &str| HttpHandler { ca_file: Some(certificates.ca.clone()), ..http(url) };

    let handler = opened(trusting(&format!("https://localhost:{port}/jobs")));
    for _ in 0..5 {
        assert!(is_complete(&deliver(&handler).await));
    }
    assert_eq!((receiver.count(), receiver.connections()), (5, 1));
    assert_eq!(receiver.requests()[0].body, PAYLOAD.as_bytes());

    untrusted(&deliver(&opened(http(&format!("https://localhost:{port}/")))).await);
    let context = HandlerContext { names: Told::new(&[&["127.0.0.1"]]), ..context() };
    let other_name = trusting(&format!("https://other.internal:{port}/")).into_settings();
    untrusted(&deliver(&open(&other_name, &context).unwrap()).await);
    assert_eq!(receiver.count(), 5);
}

#[tokio::test]
async fn a_receiver_without_tls_never_gets_plain_text_instead() {
    let receiver = Receiver::start(|_| Answer::ok());
    untrusted(&deliver(&opened(http(&format!("https://localhost:{}/", receiver.port())))).await);
    assert_eq!(receiver.requests().iter().filter(|request| request.method == "POST").count(), 0);
}

#[tokio::test]
async fn a_receiver_can_ask_for_our_certificate() {
    let scratch = Scratch::new();
    let certificates = Certificates::in_dir(scratch.path());
    let receiver = Receiver::start(|_| Answer::ok());
    let port = in_front_of(&receiver, acceptor(&certificates, b"http/1.1", true)).await.port();
    let settings =
        HttpHandler { ca_file: Some(certificates.ca.clone()), ..http(&format!("https://localhost:{port}/")) };
    untrusted(&deliver(&opened(settings.clone())).await);
    let client_certificate = Some((certificates.cert.clone(), certificates.key.clone()));
    let ended = deliver(&opened(HttpHandler { client_certificate, ..settings })).await;
    assert!(is_complete(&ended), "{ended:?}");
}

/// An HTTP/2 server that says what came, after refusing as many streams as it is told.
async fn serve_h2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, refuse: Arc<AtomicUsize>) {
    let Ok(mut connection) = h2::server::handshake(io).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let refused =
            refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if refused {
            respond.send_reset(Reason::REFUSED_STREAM);
            continue;
        }
        tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            let mut length = 0;
            while let Some(Ok(chunk)) = body.data().await {
                length += chunk.len();
                let _ = body.flow_control().release_capacity(chunk.len());
            }
            let id = |headers: &HeaderMap| headers["job-id"].to_str().unwrap().to_owned();
            let answer = format!("{} {length} bytes of job {}", head.method, id(&head.headers));
            let mut stream = respond.send_response(hyper::http::Response::new(()), false).unwrap();
            stream.send_data(Bytes::from(answer), true).unwrap();
        });
    }
}

async fn h2_server(acceptor: Option<TlsAcceptor>, refuse: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let (counted, refuse) = (Arc::clone(&connections), Arc::new(AtomicUsize::new(refuse)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let (acceptor, refuse) = (acceptor.clone(), Arc::clone(&refuse));
            tokio::spawn(async move {
                match acceptor {
                    Some(acceptor) => serve_h2(acceptor.accept(stream).await.unwrap(), refuse).await,
                    None => serve_h2(stream, refuse).await,
                }
            });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn http2_is_spoken_where_it_is_agreed_on() {
    let scratch = Scratch::new();
    let certificates = Certificates::in_dir(scratch.path());
    let (address, connections) = h2_server(Some(acceptor(&certificates, b"h2", false)), 0).await;
    let url = format!("https://localhost:{}/", address.port());
    let handler = opened(HttpHandler { ca_file: Some(certificates.ca.clone()), ..http(&url) });
    assert!(is_complete(&deliver(&handler).await));
    let ended = futures_util::future::join_all((0..20).map(|_| deliver(&handler))).await;
    for ended in &ended {
        assert_eq!(result(ended), format!("POST {} bytes of job 6b1a", PAYLOAD.len()));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1, "twenty streams on one connection");
}

#[tokio::test]
async fn http2_without_tls_is_spoken_only_when_asked_for() {
    let (address, _) = h2_server(None, 0).await;
    let handler = opened(HttpHandler { h2c: true, ..http(&format!("http://{address}/")) });
    assert_eq!(result(&deliver(&handler).await), format!("POST {} bytes of job 6b1a", PAYLOAD.len()));
    let ended = deliver(&opened(http(&format!("http://{address}/")))).await;
    assert!(!is_complete(&ended), "{ended:?}");
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_at_once() {
    let (address, _) = h2_server(None, 2).await;
    let handler = opened(HttpHandler { h2c: true, ..http(&format!("http://{address}/")) });
    let ended = deliver(&handler).await;
    assert!(is_complete(&ended), "{ended:?}");
}

#[tokio::test]
async fn streams_that_are_always_refused_cost_no_attempt() {
    let (address, _) = h2_server(None, usize::MAX).await;
    let handler = opened(HttpHandler { h2c: true, ..http(&format!("http://{address}/")) });
    let ended = deliver(&handler).await;
    assert_eq!(snooze(&ended), (5, Scope::Endpoint));
    assert_eq!(ended.status.as_deref(), Some("unreachable"));
}
