//! A real controller, real relays, and just enough HTTP to ask them.

use control_proto::JoinToken;
use relay_node::{Config, RelayNode};
use route_controller::{Config as ControllerConfig, Controller, JoinTokenRequest, TokenRequest};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Everything here happens on loopback; whatever takes longer is broken.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A controller with its files.
pub struct Overlay {
    /// `None` while it is stopped.
    controller: Option<Controller>,
    directory: TempDir,
}

impl Overlay {
    pub async fn start() -> Overlay {
        Overlay::with(|config| config).await
    }

    /// One whose controller's configuration is changed.
    pub async fn with(change: impl FnOnce(ControllerConfig) -> ControllerConfig) -> Overlay {
        let directory = tempfile::tempdir().expect("a directory");
        let config = change(ControllerConfig::local(directory.path().join("controller")));
        let controller = Controller::start(config).await.expect("the controller starts");
        Overlay { controller: Some(controller), directory }
    }

    pub fn controller(&self) -> &Controller {
        self.controller.as_ref().expect("it runs")
    }

    pub async fn stop_controller(&mut self) -> SocketAddr {
        let controller = self.controller.take().expect("it runs");
        let address = controller.grpc_address();
        controller.shutdown().await;
        address
    }

    /// Starts the controller again with what it had stored.
    pub async fn start_controller(&mut self, listen: SocketAddr) {
        let settings = route_controller::Settings {
            state_dir: Some(self.path("controller")),
            listen: Some(listen),
            admin_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..route_controller::Settings::default()
        };
        let config = ControllerConfig::from_settings(settings).expect("legal");
        // The system gives the address back when the last connection on it is gone.
        let start = || Controller::start(config.clone());
        let started = until("the controller's address is free", start, Result::is_ok).await;
        self.controller = Some(started.expect("just seen"));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub async fn join_token(&self, name: &str) -> JoinToken {
        let request = JoinTokenRequest {
            name: name.to_owned(),
            region: Some("test".to_owned()),
            ttl_s: None,
            replace: false,
        };
        let answer = self.controller().operations().create_join_token(request).await.expect("a token");
        answer.token.parse().expect("a join token")
    }

    /// Configuration of a relay that has a join token.
    pub async fn config(&self, name: &str) -> Config {
        Config::local(self.path(name), Some(self.join_token(name).await))
    }

    pub async fn relay(&self, name: &str) -> RelayNode {
        RelayNode::start(self.config(name).await).await.expect("the relay starts")
    }

    /// A client's token for every room of a namespace.
    pub fn client_token(&self, namespace: &str) -> String {
        let request = TokenRequest {
            namespace: namespace.to_owned(),
            room: "*".to_owned(),
            publish: true,
            subscribe: true,
            subject: Some("test".to_owned()),
            ttl_s: None,
        };
        self.controller().operations().create_token(&request).expect("a token").token
    }
}

/// Status and body of a GET.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    exchange(TcpStream::connect(address).await.expect("the API listens"), path, "").await
}

/// The same over any stream, with more headers.
pub async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    headers: &str,
) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    (status, body.to_owned())
}

pub async fn get_json(address: SocketAddr, path: &str) -> (u16, Value) {
    let (status, body) = get(address, path).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}")))
}

/// Asks until the answer is as wanted.
pub async fn until<T, F: Future<Output = T>>(
    what: &str,
    mut ask: impl FnMut() -> F,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let asking = async {
        loop {
            ticks.tick().await;
            let answer = ask().await;
            if wanted(&answer) {
                return answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

pub async fn until_ready(relay: &RelayNode) {
    let api = relay.api_address();
    until("the relay is ready", || get_json(api, "/readyz"), |(status, _)| *status == 200).await;
}

pub async fn until_linked(relay: &RelayNode, other: &str) -> Value {
    let api = relay.api_address();
    let is_up = |(_, links): &(u16, Value)| link_to(links, other).is_some_and(|link| link["state"] == "up");
    let (_, links) = until(&format!("{other} is linked"), || get_json(api, "/v1/links"), is_up).await;
    link_to(&links, other).expect("just seen").clone()
}

pub fn link_to<'a>(links: &'a Value, name: &str) -> Option<&'a Value> {
    links["links"].as_array()?.iter().find(|link| link["name"] == name)
}

pub fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).expect("exists").permissions().mode() & 0o777
}

/// Status, head and body of any request. `body` is sent as JSON unless it is empty.
pub async fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String, String) {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    request_with(address, method, path, kind, body).await
}

/// The same with headers of one's own.
pub async fn request_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.expect("the API listens");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let answer = String::from_utf8(answer).expect("UTF-8");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    (status, head.to_lowercase(), body.to_owned())
}

/// Status and body of a request whose answer is JSON.
pub async fn send_json(address: SocketAddr, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let (status, _, body) = request(address, method, path, &text).await;
    if body.is_empty() {
        return (status, Value::Null);
    }
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}")))
}
