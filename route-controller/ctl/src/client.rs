//! Asks the controller's admin API.

use crate::ControllerArgs;
use anyhow::{Context as _, anyhow, bail};
use route_controller::ErrorAnswer;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Longest time for one question and its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer read: route tables of a thousand relays fit many times.
const ANSWER_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Largest token or certificate file read.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The admin API of one controller.
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
}

impl Client {
    /// Reads the files that the arguments name; asks nothing yet.
    pub(crate) fn new(args: &ControllerArgs) -> anyhow::Result<Client> {
        let url = args.controller.trim_end_matches('/').to_owned();
        let secure = url.starts_with("https://");
        if !secure && !url.starts_with("http://") {
            bail!("--controller {url:?} is no URL: write for instance http://127.0.0.1:4711");
        }
        let token =
            args.token_file.as_deref().map(read_small).transpose()?.map(|text| text.trim().to_owned());
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None);
        if secure {
            let Some(file) = args.ca_file.as_deref() else {
                bail!(
                    "{url} needs the overlay's CA certificate: give --ca-file (or CASCADE_CA_FILE) the `ca.pem` from \
                     the controller's state directory"
                )
            };
            let pem = read_small(file)?;
            let ca = Certificate::from_pem(pem.as_bytes())
                .with_context(|| format!("{} holds no certificate", file.display()))?;
            let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::new_with_certs(&[ca]))
                .unversioned_rustls_crypto_provider(provider);
            config = config.tls_config(tls.build());
        }
        Ok(Client { agent: config.build().new_agent(), url, token })
    }

    /// `GET path`, with a query.
    pub(crate) fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        self.get_patiently(path, query, TIMEOUT)
    }

    /// The same of what may take longer.
    pub(crate) fn get_patiently(
        &self,
        path: &str,
        query: &[(&str, String)],
        timeout: Duration,
    ) -> anyhow::Result<Value> {
        let request = self.agent.get(format!("{}{path}", self.url));
        let mut request = request.config().timeout_global(Some(timeout)).build();
        for (key, value) in query {
            request = request.query(key, value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.read(request.call())
    }

    /// `POST path` with a JSON body.
    pub(crate) fn post(&self, path: &str, body: &impl Serialize) -> anyhow::Result<Value> {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.read(request.send_json(body))
    }

    /// `PUT path` with a JSON body.
    pub(crate) fn put(&self, path: &str, body: &impl Serialize) -> anyhow::Result<Value> {
        let mut request = self.agent.put(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.read(request.send_json(body))
    }

    /// `DELETE path`.
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<Value> {
        let mut request = self.agent.delete(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.read(request.call())
    }

    /// The answer; null where a success has no body.
    fn read(&self, outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> anyhow::Result<Value> {
        let mut response = outcome.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.with_context(|| format!("the answer of {} broke off", self.url))?;
        if status == ureq::http::StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        if status.is_success() {
            return serde_json::from_str(&body).with_context(|| self.foreign());
        }
        match serde_json::from_str::<ErrorAnswer>(&body) {
            Ok(ErrorAnswer { error, hint }) => Err(anyhow!("{error}\n  {hint}")),
            Err(_) => Err(anyhow!("{} answered {status}", self.url).context(self.foreign())),
        }
    }

    fn foreign(&self) -> String {
        format!(
            "{} does not answer like a controller's admin API: check --controller (or CASCADE_CONTROLLER)",
            self.url
        )
    }

    fn unreachable(&self, error: &ureq::Error) -> anyhow::Error {
        anyhow!(
            "cannot reach the controller at {}: {error}\n  \
             check that route-controller runs there, and that --controller (or CASCADE_CONTROLLER) names its admin \
             API (`admin_listen`, by default http://127.0.0.1:4711)",
            self.url
        )
    }
}

fn read_small(file: &Path) -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text)
}
