//! Servers behind TLS, with certificates of an authority of the test's own.
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::io::InspectReader;

/// An authority that nobody trusts who was not told to, and what it says of `localhost`.
pub struct Authority {
    folder: TempDir,
    chain: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let mut root = CertificateParams::new([]).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_key = KeyPair::generate().unwrap();
        let trusted = root.self_signed(&root_key).unwrap();
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let shown = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", trusted.pem());
        write("server.pem", shown.pem());
        write("server.key", key.serialize_pem());
        Self { folder, chain: shown.der().clone(), key: key.serialize_der() }
    }

    /// `ca.pem`, `server.pem` or `server.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn acceptor(&self, protocol: &[u8]) -> TlsAcceptor {
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let mut config = rustls::ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.chain.clone()], key)
            .unwrap();
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// Stands before `server` and passes on what is said over TLS, byte by byte.
    pub async fn before(&self, server: SocketAddr) -> Front {
        Front::start(self.acceptor(b"http/1.1"), move |stream| async move {
            let (mut stream, Ok(mut behind)) = (stream, TcpStream::connect(server).await) else { return };
            let _ = copy_bidirectional(&mut stream, &mut behind).await;
        })
        .await
    }

    /// Stands before `server` and speaks HTTP/2: at most `streams` requests at a time on a connection.
    pub async fn before_in_http2(&self, server: SocketAddr, streams: u32) -> Front {
        let (leave, leaving) = watch::channel(());
        let settled = Arc::new(AtomicUsize::new(0));
        let count = settled.clone();
        let refusing = Arc::new(AtomicUsize::new(0));
        let refuse = refusing.clone();
        let mut front = Front::start(self.acceptor(b"h2"), move |stream| {
            let mut leaving = leaving.clone();
            leaving.mark_unchanged();
            let (count, refuse) = (count.clone(), refuse.clone());
            let stream = InspectReader::new(stream, move |read| {
                count.fetch_add(usize::from(read.windows(9).any(|frame| frame == SETTINGS_ACK)), SeqCst);
            });
            async move {
                let one_less = |many: usize| many.checked_sub(1);
                let pass = service_fn(move |request| {
                    let refused = refuse.fetch_update(SeqCst, SeqCst, one_less).is_ok();
                    async move {
                        if refused {
                            return Err(h2::Error::from(h2::Reason::REFUSED_STREAM));
                        }
                        Ok(pass(request, server).await)
                    }
                });
                let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let made = http.max_concurrent_streams(streams).serve_connection(TokioIo::new(stream), pass);
                let mut made = std::pin::pin!(made);
                tokio::select! {
                    _ = made.as_mut() => return,
                    _ = leaving.changed() => made.as_mut().graceful_shutdown(),
                }
                let _ = made.await;
            }
        })
        .await;
        (front.leave, front.settled, front.refusing) = (Some(leave), settled, refusing);
        front
    }
}

/// Passes a request on in HTTP/1.1, on a connection of its own.
async fn pass(request: Request<Incoming>, server: SocketAddr) -> Response<Incoming> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut onwards = Request::builder().method(head.method).uri(head.uri.path());
    for (name, value) in &head.headers {
        onwards = onwards.header(name, value);
    }
    let onwards = onwards.body(Full::new(body)).unwrap();
    let behind = TokioIo::new(TcpStream::connect(server).await.unwrap());
    let (mut sender, driver) = hyper::client::conn::http1::handshake(behind).await.unwrap();
    tokio::spawn(driver);
    sender.send_request(onwards).await.unwrap()
}

/// What a client answers to a server's settings (RFC 9113, section 6.5).
const SETTINGS_ACK: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];

/// What listens before a server. Gone when dropped, with its connections.
pub struct Front {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    connections: Arc<Mutex<JoinSet<()>>>,
    settled: Arc<AtomicUsize>,
    refusing: Arc<AtomicUsize>,
    task: JoinHandle<()>,
    leave: Option<watch::Sender<()>>,
}

impl Front {
    async fn start<F: Future<Output = ()> + Send>(
        acceptor: TlsAcceptor,
        serve: impl Fn(TlsStream<TcpStream>) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(JoinSet::new())));
        let (count, all) = (accepted.clone(), connections.clone());
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                let (acceptor, serve, count) = (acceptor.clone(), serve.clone(), count.clone());
                all.lock().unwrap().spawn(async move {
                    if let Ok(stream) = acceptor.accept(socket).await {
                        count.fetch_add(1, SeqCst);
                        serve(stream).await;
                    }
                });
            }
        });
        let (settled, refusing) = <(Arc<_>, Arc<_>)>::default();
        Self { address, accepted, connections, settled, refusing, task, leave: None }
    }

    /// How many connections there have been whose two sides trusted each other.
    pub fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// How many connections there have been whose client has said that it knows how many requests they take.
    pub fn settled(&self) -> usize {
        self.settled.load(SeqCst)
    }

    /// Refuses the next requests (REFUSED_STREAM), over HTTP/2.
    pub fn refuse(&self, many: usize) {
        self.refusing.store(many, SeqCst);
    }

    /// Closes all connections, without a word.
    pub fn hang_up(&self) {
        self.connections.lock().unwrap().abort_all();
    }

    /// Takes no more requests on the connections that are there (GOAWAY), and ends what is under way.
    pub fn go_away(&self) {
        self.leave.as_ref().unwrap().send(()).unwrap();
    }

    /// Its base URL, by a name or an address that the certificate is for.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/v1", self.address.port())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
        self.hang_up();
    }
}
