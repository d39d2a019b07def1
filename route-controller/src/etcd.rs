//! etcd, as much of it as several controllers need: leases, the key of the leader, and rows.
//!
//! Under the prefix there are `leader`, tied to the leader's lease and holding its name, and `store/TABLE/KEY`. A call goes
//! to one member; when that does not answer, the next call goes to the next. Who calls decides whether to call again.

use crate::engine::{Counts, count};
use crate::store::{Change, Rows, Table};
use anyhow::Context as _;
use proto::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::kv_client::KvClient;
use proto::lease_client::LeaseClient;
use proto::request_op::Request;
use proto::response_op::Response;
use route_core::{ElectionAnswer, ElectionRequest, LEASE, LeaseId};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

/// Messages and stubs, generated from the .proto.
mod proto {
    #![allow(
        missing_docs,
        rust_2018_idioms,
        clippy::all,
        clippy::wildcard_enum_match_arm,
        reason = "generated: documented in the .proto, not written to our taste"
    )]
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// For a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A member that answers no ping of its connection for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// For an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// Rows read at a time.
const PAGE: i64 = 1_000;
/// Largest answer: a page of the largest rows.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Where an etcd is and how it is spoken to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EtcdConfig {
    /// `HOST:PORT` of its members.
    pub(crate) members: Vec<String>,
    /// What all keys begin with, without a slash at the end.
    pub(crate) prefix: String,
    /// `None`: without TLS.
    pub(crate) tls: Option<EtcdTls>,
}

/// Files in PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EtcdTls {
    /// Whose certificates etcd shows.
    pub(crate) ca: PathBuf,
    /// Certificate and key that this controller shows, if etcd asks for one.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Written {
    Done,
    /// Another leads, or may.
    Refused,
}

/// A way to an etcd.
pub(crate) struct Etcd {
    members: Vec<Channel>,
    /// The member that answered last.
    at: AtomicUsize,
    prefix: String,
    /// How this controller calls itself where it leads.
    name: String,
    /// Where failed calls are counted.
    counts: Arc<Counts>,
}

impl Etcd {
    /// Connects when it is first needed.
    pub(crate) fn new(config: &EtcdConfig, name: String, counts: Arc<Counts>) -> anyhow::Result<Etcd> {
        let members = config.members.iter().map(|member| channel(member, config.tls.as_ref()));
        Ok(Etcd {
            members: members.collect::<anyhow::Result<_>>()?,
            at: AtomicUsize::new(0),
            prefix: config.prefix.clone(),
            name,
            counts,
        })
    }

    /// Every row, as of now.
    pub(crate) async fn rows(&self) -> Result<Rows, Status> {
        let begin = format!("{}/store/", self.prefix).into_bytes();
        // The byte after a slash: all keys that begin so lie between.
        let end = format!("{}/store0", self.prefix).into_bytes();
        let mut rows = Rows::default();
        let mut key = begin.clone();
        loop {
            let request = proto::RangeRequest { key: key.clone(), range_end: end.clone(), limit: PAGE };
            let page =
                self.call(|channel| kv(channel, |mut kv| async move { kv.range(request).await })).await?;
            for row in &page.kvs {
                let path = row.key.strip_prefix(begin.as_slice()).unwrap_or_default();
                let path = String::from_utf8_lossy(path);
                let table = path.split_once('/').and_then(|(name, key)| {
                    Some((Table::ALL.into_iter().find(|table| table.name() == name)?, key))
                });
                match table {
                    Some((table, key)) => rows.insert(table, key.to_owned(), row.value.clone()),
                    None => tracing::warn!(key = %path, "etcd has a row that this version does not know"),
                }
            }
            match page.kvs.last() {
                Some(last) if page.more => key = [last.key.as_slice(), &[0]].concat(),
                Some(_) | None => return Ok(rows),
            }
        }
    }

    /// Writes the first rows of an overlay, if there are none yet: `first` must be among them. `false` if there is.
    pub(crate) async fn found(&self, first: &Change, changes: &[Change]) -> Result<bool, Status> {
        let request = proto::TxnRequest {
            compare: vec![created(self.row(first), 0)],
            success: changes.iter().map(|change| self.operation(change)).collect(),
            failure: Vec::new(),
        };
        Ok(self.transact(request).await?.succeeded)
    }

    /// Makes changes as the leader of `term`, which has written `writes` times.
    pub(crate) async fn write(
        &self,
        term: u64,
        lease: LeaseId,
        writes: i64,
        changes: &[Change],
    ) -> Result<Written, Status> {
        let key = self.leader_key();
        let again = proto::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Version.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::Version(writes)),
        };
        let put =
            proto::PutRequest { key: key.clone(), value: self.name.clone().into_bytes(), lease: lease.0 };
        let mut success = vec![operation(Request::RequestPut(put))];
        success.extend(changes.iter().map(|change| self.operation(change)));
        let request = proto::TxnRequest {
            compare: vec![created(key.clone(), term as i64), again],
            success,
            failure: vec![operation(Request::RequestRange(one(key)))],
        };
        let answer = match self.transact(request).await {
            // The lease has ended.
            Err(status) if status.code() == Code::NotFound => return Ok(Written::Refused),
            answer => answer?,
        };
        if answer.succeeded {
            return Ok(Written::Done);
        }
        // Tried before, and done then: nobody else writes in this term.
        let done = leader_of(&answer)
            .is_some_and(|leader| leader.create_revision == term as i64 && leader.version == writes + 1);
        Ok(if done { Written::Done } else { Written::Refused })
    }

    /// What an election asks for.
    pub(crate) async fn ask(&self, request: ElectionRequest) -> ElectionAnswer {
        self.try_ask(request).await.unwrap_or_else(|status| {
            tracing::debug!(?request, "etcd: {}", status.message());
            ElectionAnswer::Failed
        })
    }

    async fn try_ask(&self, request: ElectionRequest) -> Result<ElectionAnswer, Status> {
        match request {
            ElectionRequest::Look => {
                let request = one(self.leader_key());
                let call = |channel| kv(channel, |mut kv| async move { kv.range(request).await });
                let found = self.call(call).await?.kvs.pop();
                Ok(found.map_or(ElectionAnswer::Vacant, |leader| held(&leader)))
            }
            ElectionRequest::Grant => {
                let request = proto::LeaseGrantRequest { ttl: LEASE.as_secs() as i64, id: 0 };
                let call =
                    |channel| leases(channel, |mut leases| async move { leases.lease_grant(request).await });
                let granted = self.call(call).await?;
                Ok(ElectionAnswer::Granted { lease: LeaseId(granted.id), lasts: seconds(granted.ttl) })
            }
            ElectionRequest::Campaign { lease } => {
                let key = self.leader_key();
                let put = proto::PutRequest {
                    key: key.clone(),
                    value: self.name.clone().into_bytes(),
                    lease: lease.0,
                };
                let request = proto::TxnRequest {
                    compare: vec![created(key.clone(), 0)],
                    success: vec![operation(Request::RequestPut(put))],
                    failure: vec![operation(Request::RequestRange(one(key)))],
                };
                let answer = self.transact(request).await?;
                let revision = answer.header.as_ref().map_or(0, |header| header.revision);
                match (answer.succeeded, leader_of(&answer)) {
                    (true, _) => Ok(ElectionAnswer::Won { term: revision.unsigned_abs() }),
                    (false, Some(leader)) => Ok(held(&leader)),
                    (false, None) => Ok(ElectionAnswer::Failed),
                }
            }
            ElectionRequest::KeepAlive { lease } => {
                let request = proto::LeaseKeepAliveRequest { id: lease.0 };
                let call = |channel| {
                    leases(channel, |mut leases| async move {
                        let mut answers =
                            leases.lease_keep_alive(tokio_stream::once(request)).await?.into_inner();
                        let answer = answers.message().await?;
                        answer.map(tonic::Response::new).ok_or_else(|| Status::unavailable("no answer"))
                    })
                };
                Ok(ElectionAnswer::Alive { lasts: seconds(self.call(call).await?.ttl) })
            }
            ElectionRequest::Revoke { lease } => {
                let request = proto::LeaseRevokeRequest { id: lease.0 };
                let call =
                    |channel| leases(channel, |mut leases| async move { leases.lease_revoke(request).await });
                self.call(call).await?;
                Ok(ElectionAnswer::Vacant)
            }
        }
    }

    async fn transact(&self, request: proto::TxnRequest) -> Result<proto::TxnResponse, Status> {
        self.call(|channel| kv(channel, |mut kv| async move { kv.txn(request).await })).await
    }

    /// Asks the member that answered last; upon a failure, the next call goes to the next.
    async fn call<T, F>(&self, call: impl FnOnce(Channel) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let at = self.at.load(Ordering::Relaxed);
        let answer = tokio::time::timeout(CALL_TIMEOUT, call(self.members[at % self.members.len()].clone()));
        let answer = answer.await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        match answer {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => {
                // What the request itself is answered, every member would answer.
                if status.code() != Code::NotFound {
                    count(&self.counts.etcd_errors);
                    let _ = self.at.compare_exchange(at, at + 1, Ordering::Relaxed, Ordering::Relaxed);
                }
                Err(status)
            }
        }
    }

    fn leader_key(&self) -> Vec<u8> {
        format!("{}/leader", self.prefix).into_bytes()
    }

    fn row(&self, change: &Change) -> Vec<u8> {
        format!("{}/store/{}/{}", self.prefix, change.table.name(), change.key).into_bytes()
    }

    fn operation(&self, change: &Change) -> proto::RequestOp {
        let key = self.row(change);
        operation(match &change.value {
            Some(value) => Request::RequestPut(proto::PutRequest { key, value: value.clone(), lease: 0 }),
            None => Request::RequestDeleteRange(proto::DeleteRangeRequest { key }),
        })
    }
}

/// A connection to one member, made when it is needed and again when it breaks.
fn channel(member: &str, tls: Option<&EtcdTls>) -> anyhow::Result<Channel> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{member}"))
        .with_context(|| format!("{member:?} is no HOST:PORT"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .tcp_nodelay(true);
    let Some(EtcdTls { ca, own }) = tls else { return Ok(endpoint.connect_lazy()) };
    let read = |file: &PathBuf| {
        std::fs::read(file).with_context(|| format!("cannot read {}, for TLS to etcd", file.display()))
    };
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
    if let Some((certificate, key)) = own {
        config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    let endpoint = endpoint.tls_config(config).context("the files for TLS to etcd cannot be used")?;
    Ok(endpoint.connect_lazy())
}

async fn kv<T, F>(channel: Channel, call: impl FnOnce(KvClient<Channel>) -> F) -> T
where
    F: Future<Output = T>,
{
    call(KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)).await
}

async fn leases<T, F>(channel: Channel, call: impl FnOnce(LeaseClient<Channel>) -> F) -> T
where
    F: Future<Output = T>,
{
    call(LeaseClient::new(channel)).await
}

fn one(key: Vec<u8>) -> proto::RangeRequest {
    proto::RangeRequest { key, range_end: Vec::new(), limit: 1 }
}

/// Holds if the key was created at this revision; 0: if it is not there.
fn created(key: Vec<u8>, revision: i64) -> proto::Compare {
    proto::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key,
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

fn operation(request: Request) -> proto::RequestOp {
    proto::RequestOp { request: Some(request) }
}

/// The leader's key, which a transaction looked up because it was refused.
fn leader_of(answer: &proto::TxnResponse) -> Option<proto::KeyValue> {
    match answer.responses.first()?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first().cloned(),
        Response::ResponsePut(_) | Response::ResponseDeleteRange(_) => None,
    }
}

fn held(leader: &proto::KeyValue) -> ElectionAnswer {
    ElectionAnswer::Held(String::from_utf8_lossy(&leader.value).into_owned())
}

/// None or less is none.
fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}
