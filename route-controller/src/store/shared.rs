//! The store of several controllers: rows under a prefix of an etcd.
//!
//! Only the leader writes. Each write is one transaction that compares the leader's key: that it was created when this
//! leader's term began, and how often it was written since, for every write puts it anew. So whoever was leader before
//! writes nothing any more, and a write whose answer got lost can be tried again: whether it was done shows in that count,
//! and a copy that comes late through a slow member changes nothing.

use super::row::Change;
use crate::etcd::{Etcd, Written};
use crate::tenure::{Deposed, Tenure};
use anyhow::Context as _;
use route_core::LeaseId;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// As many changes are made at once; etcd takes 128 operations by default.
const CHANGES_MAX: usize = 100;
/// A write that etcd has not taken by then is given up, and the leadership with it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// The leader's way to write.
pub(crate) struct SharedStore {
    etcd: Arc<Etcd>,
    /// Whose threads wait for etcd: the loop that writes has none of its own to spare.
    runtime: Handle,
    tenure: Tenure,
    term: u64,
    lease: LeaseId,
    /// How often the leader's key was written in this term.
    writes: i64,
}

impl SharedStore {
    /// Of the leader of this term. To be called within the runtime that talks to etcd.
    pub(crate) fn new(etcd: Arc<Etcd>, tenure: Tenure, term: u64, lease: LeaseId) -> SharedStore {
        SharedStore { etcd, runtime: Handle::current(), tenure, term, lease, writes: 1 }
    }

    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Makes changes durable. Blocks, so it must not be called on a thread of the runtime.
    pub(crate) fn commit(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        for changes in changes.chunks(CHANGES_MAX) {
            let (sender, written) = std::sync::mpsc::channel();
            let (etcd, tenure) = (Arc::clone(&self.etcd), self.tenure.clone());
            let (term, lease, writes, changes) = (self.term, self.lease, self.writes, changes.to_vec());
            self.runtime.spawn(async move {
                let trying = async {
                    loop {
                        if !tenure.holds() {
                            return Err(Deposed.into());
                        }
                        match etcd.write(term, lease, writes, &changes).await {
                            Ok(Written::Done) => return Ok(()),
                            Ok(Written::Refused) => return Err(Deposed.into()),
                            Err(error) => tracing::warn!("etcd did not take a write: {error}"),
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                };
                let outcome = tokio::time::timeout(PATIENCE, trying).await;
                let outcome = outcome.unwrap_or_else(|_| {
                    Err(anyhow::anyhow!("etcd takes no writes; is its disk slow, or its space exceeded?"))
                });
                // The loop waits for it, unless the process ends.
                let _ = sender.send(outcome);
            });
            written.recv().context("the process is ending")??;
            self.writes += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::engine::Counts;
    use crate::etcd::{EtcdConfig, EtcdTls};
    use crate::store::{Store, Table};
    use route_core::{ElectionAnswer, ElectionRequest, StoreUpdate};
    use std::net::TcpListener;
    use std::process::{Child, Command, Stdio};
    use wire_format::{Epoch, Timestamp};

    /// An etcd that ends with the test.
    struct Server {
        child: Child,
        _data: tempfile::TempDir,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            // Fails if it has ended, which is well.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// `None` where etcd is not installed; with CI=true that fails.
    async fn server(tls: Option<&Tls>) -> anyhow::Result<Option<(Server, Arc<Etcd>)>> {
        let port = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let (clients, peers, data) = (port()?, port()?, tempfile::tempdir()?);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let urls = [format!("{scheme}://{clients}"), format!("http://{peers}")];
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(data.path()).stdout(Stdio::null()).stderr(Stdio::null());
        command.args(["--listen-client-urls", &urls[0], "--advertise-client-urls", &urls[0]]);
        command.args(["--listen-peer-urls", &urls[1], "--initial-advertise-peer-urls", &urls[1]]);
        command.args(["--initial-cluster", &format!("default={}", urls[1])]);
        if let Some(tls) = tls {
            command.arg("--cert-file").arg(tls.file("etcd.pem"));
            command.arg("--key-file").arg(tls.file("etcd.key"));
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(tls.file("ca.pem"));
        }
        let Ok(child) = command.spawn() else {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "etcd is not installed, and CI skips nothing"
            );
            eprintln!("SKIPPED: etcd is not installed (package etcd-server)");
            return Ok(None);
        };
        let server = Server { child, _data: data };
        let config = EtcdConfig {
            // Of the first nothing is left: calls go to the next.
            members: vec![port()?.to_string(), clients.to_string()],
            prefix: "/test".to_owned(),
            tls: tls.map(|tls| EtcdTls {
                ca: tls.file("ca.pem"),
                own: Some((tls.file("own.pem"), tls.file("own.key"))),
            }),
        };
        let etcd = Arc::new(Etcd::new(&config, "a:1".to_owned(), Arc::<Counts>::default())?);
        let answering = async {
            while etcd.rows().await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), answering).await.context("etcd does not answer")?;
        Ok(Some((server, etcd)))
    }

    /// A CA with a certificate for etcd and one for its client.
    struct Tls(tempfile::TempDir);

    impl Tls {
        fn make() -> anyhow::Result<Tls> {
            use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
            let tls = Tls(tempfile::tempdir()?);
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            std::fs::write(tls.file("ca.pem"), params.self_signed(&key)?.pem())?;
            let issuer = Issuer::new(params, key);
            for name in ["etcd", "own"] {
                let key = KeyPair::generate()?;
                let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
                let certificate = certificate.signed_by(&key, &issuer)?;
                std::fs::write(tls.file(&format!("{name}.pem")), certificate.pem())?;
                std::fs::write(tls.file(&format!("{name}.key")), key.serialize_pem())?;
            }
            Ok(tls)
        }

        fn file(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn etcd_is_spoken_to_by_tls_with_a_certificate_of_ones_own() -> anyhow::Result<()> {
        let tls = Tls::make()?;
        let Some((_server, etcd)) = server(Some(&tls)).await? else { return Ok(()) };
        let (term, lease) = elected(&etcd).await;
        assert_eq!(etcd.write(term, lease, 1, &[change("1")]).await?, Written::Done);
        assert_eq!(stored(&etcd).await?.as_deref(), Some(b"1".as_slice()));
        Ok(())
    }

    async fn elected(etcd: &Etcd) -> (u64, LeaseId) {
        let ElectionAnswer::Granted { lease, .. } = etcd.ask(ElectionRequest::Grant).await else {
            panic!("no lease")
        };
        let ElectionAnswer::Won { term } = etcd.ask(ElectionRequest::Campaign { lease }).await else {
            panic!("somebody leads")
        };
        (term, lease)
    }

    fn change(value: &str) -> Change {
        Change::put(Table::Numbers, "test", value.as_bytes().to_vec())
    }

    async fn stored(etcd: &Etcd) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(etcd.rows().await?.get(Table::Numbers, "test").map(<[u8]>::to_vec))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_led_before_writes_nothing_more_though_it_knows_nothing() -> anyhow::Result<()> {
        let Some((_server, etcd)) = server(None).await? else { return Ok(()) };
        let (term, lease) = elected(&etcd).await;
        // As of a controller that was stopped before it looked at its clock: it believes that it leads.
        let unaware = Tenure::unlimited(Clock::start());
        let mut old = SharedStore::new(Arc::clone(&etcd), unaware.clone(), term, lease);
        let write = |store: &mut SharedStore, value: &str| {
            tokio::task::block_in_place(|| store.commit(&[change(value)]))
        };
        write(&mut old, "1")?;
        write(&mut old, "2")?;
        assert_eq!(stored(&etcd).await?.as_deref(), Some(b"2".as_slice()));
        let held = etcd.ask(ElectionRequest::Look).await;
        assert_eq!(held, ElectionAnswer::Held("a:1".to_owned()), "writing keeps the key");

        // A write that was done, though its answer got lost, is found to be done; one that comes late does nothing.
        assert_eq!(etcd.write(term, lease, 2, &[change("2")]).await?, Written::Done);
        assert_eq!(etcd.write(term, lease, 1, &[change("1")]).await?, Written::Refused);
        assert_eq!(stored(&etcd).await?.as_deref(), Some(b"2".as_slice()));

        // Another takes over.
        etcd.ask(ElectionRequest::Revoke { lease }).await;
        let error = write(&mut old, "nobody leads").expect_err("refused");
        assert!(error.is::<Deposed>(), "{error:#}");
        let (new_term, new_lease) = elected(&etcd).await;
        assert!(new_term > term, "{new_term} after {term}");
        let mut new = SharedStore::new(Arc::clone(&etcd), unaware, new_term, new_lease);
        write(&mut new, "3")?;
        let error = write(&mut old, "4").expect_err("refused");
        assert!(error.is::<Deposed>(), "{error:#}");
        assert_eq!(stored(&etcd).await?.as_deref(), Some(b"3".as_slice()));
        assert_eq!(
            etcd.ask(ElectionRequest::KeepAlive { lease }).await,
            ElectionAnswer::Alive { lasts: Duration::ZERO }
        );
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn floors_are_there_for_the_next_leader_and_many_changes_are_written() -> anyhow::Result<()> {
        let Some((_server, etcd)) = server(None).await? else { return Ok(()) };
        let (term, lease) = elected(&etcd).await;
        let shared = SharedStore::new(Arc::clone(&etcd), Tenure::unlimited(Clock::start()), term, lease);
        let many: Vec<_> =
            (0..1_500).map(|at| Change::put(Table::Secrets, format!("s{at}"), vec![1; 100])).collect();
        let rows = etcd.rows().await?;
        let memory = tokio::task::block_in_place(|| -> anyhow::Result<_> {
            let mut store = Store::lead(rows, shared)?;
            store.apply(&[StoreUpdate::EpochFloor(Epoch(512))], 10)?;
            store.found(many)?;
            store.begin_term(10)
        })?;
        assert_eq!(memory.term, term);
        let again = Store::copy(etcd.rows().await?);
        assert_eq!(again.secrets("s").len(), 1_500);

        etcd.ask(ElectionRequest::Revoke { lease }).await;
        let (term, lease) = elected(&etcd).await;
        let (until, tenure) = Tenure::limited(Clock::start(), Timestamp::ZERO + Duration::from_secs(60));
        let shared = SharedStore::new(Arc::clone(&etcd), tenure, term, lease);
        let rows = etcd.rows().await?;
        tokio::task::block_in_place(|| -> anyhow::Result<()> {
            let mut store = Store::lead(rows, shared)?;
            assert_eq!(store.begin_term(10)?.epoch_floor, Epoch(512));
            // By its own clock it is over: it does not even ask.
            until.send_replace(Timestamp::ZERO);
            let error = store.apply(&[StoreUpdate::EpochFloor(Epoch(768))], 10).expect_err("over");
            assert!(error.is::<Deposed>(), "{error:#}");
            Ok(())
        })?;
        Ok(())
    }
}
