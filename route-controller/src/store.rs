//! What survives a restart: rows in a redb file of this controller's own, or in an etcd that several controllers share.
//! Every change is durable when the method that makes it returns.
//!
//! Besides what the core asks to remember (relays and their indices, floors of epochs and room ids), there are the term,
//! the CA and the token signing key (private halves sealed by the [`Vault`](crate::vault::Vault)), join tokens by the
//! hash of their secret, certificates issued and which of them are good, tokens of the admin
//! API by their hash, and public keys of other token services.
//!
//! All of it is small, and one controller writes at a time; so it is read once, and looked up in memory from then on.

mod file;
mod row;
mod shared;
mod trust;

use crate::api_tokens::{ApiTokenRecord, TokenHash};
use crate::policies::PolicyDocument;
use crate::tokens::{hex, unhex};
use anyhow::Context as _;
use file::FileStore;
use route_core::{NodeRecord, StoreUpdate};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use wire_format::control::TokenKey;
use wire_format::{Epoch, NodeIndex, RoomId};

pub(crate) use row::{Change, Rows, Table};
pub(crate) use shared::SharedStore;

/// Join tokens that wait to be used. More are refused until some expire.
pub(crate) const JOIN_TOKENS_MAX: usize = 10_000;

/// How long the relay that spent a token may ask for its certificate again, if the answer got lost.
const REPEAT_S: u64 = 600;

/// Layout of the tables below; another build's file is refused, not guessed at.
const SCHEMA: u64 = 1;

const SCHEMA_KEY: &str = "schema";
const TERM: &str = "term";
const EPOCH_FLOOR: &str = "epoch_floor";
const ROOM_FLOOR: &str = "room_floor";
const POLICIES: &str = "in_force";
const POLICIES_OF_FILE: &str = "of_file";

/// The store.
pub(crate) struct Store {
    rows: Rows,
    home: Home,
}

/// Where it lies.
enum Home {
    File(FileStore),
    /// Boxed: there is one, and it is larger.
    Shared(Box<SharedStore>),
    /// Read by a controller that does not lead: nothing is written.
    Copy,
}

/// What the core is made from.
pub(crate) struct Memory {
    pub(crate) term: u64,
    pub(crate) nodes: Vec<NodeRecord>,
    /// Indices in quarantine, and for how long they have been.
    pub(crate) quarantined: BTreeMap<NodeIndex, Duration>,
    pub(crate) epoch_floor: Epoch,
    pub(crate) room_floor: RoomId,
}

/// A join token that waits to be used.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct JoinRecord {
    pub(crate) name: String,
    pub(crate) region: Option<String>,
    pub(crate) expires_unix_s: u64,
    #[serde(default)]
    pub(crate) created_unix_s: u64,
    /// It may take the place of a relay that is in session.
    #[serde(default)]
    pub(crate) replace: bool,
}

/// Names a join token without giving anything of its secret away: the first bytes of the secret's hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct JoinTokenId(pub(crate) [u8; 8]);

impl JoinTokenId {
    pub(crate) fn of(secret_hash: &[u8; 32]) -> JoinTokenId {
        JoinTokenId(std::array::from_fn(|at| secret_hash[at]))
    }

    /// What the keys of tokens with this id begin with.
    fn prefix(self) -> String {
        hex(&self.0)
    }
}

/// What a join token's secret is worth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum JoinState {
    /// It waits to be used.
    Fresh(JoinRecord),
    /// It was used a moment ago, for the public key with this hash: its holder, and nobody else, may ask again.
    Spent(JoinRecord, [u8; 32]),
    /// Nothing: no such token, used, or expired.
    Void,
}

#[derive(Serialize, Deserialize)]
struct SpentRecord {
    token: JoinRecord,
    key_sha256: [u8; 32],
    spent_unix_s: u64,
}

/// A certificate that was issued.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct CertificateRecord {
    pub(crate) name: String,
    pub(crate) node: u16,
    pub(crate) issued_unix_s: u64,
    pub(crate) expires_unix_s: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredNode {
    name: String,
    region: String,
    addresses: Vec<SocketAddr>,
    /// Routes avoid passing it.
    #[serde(default)]
    cordoned: bool,
    /// SFUs are to leave it.
    #[serde(default)]
    draining: bool,
    /// Since when its index is in quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quarantined_unix_s: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct StoredTokenKey {
    public_key: [u8; 32],
    namespace: Option<String>,
}

impl Store {
    /// Opens the file, or makes it, with all its tables.
    pub(crate) fn open(file: &Path) -> anyhow::Result<Store> {
        let home = FileStore::open(file)?;
        let mut store = Store { rows: home.rows()?, home: Home::File(home) };
        store.check_schema(&file.display().to_string())?;
        Ok(store)
    }

    /// What etcd holds, for the leader: what it writes from now on is refused when another has taken over.
    pub(crate) fn lead(rows: Rows, home: SharedStore) -> anyhow::Result<Store> {
        let mut store = Store { rows, home: Home::Shared(Box::new(home)) };
        store.check_schema("the store in etcd")?;
        Ok(store)
    }

    /// What a store held a moment ago, to read.
    pub(crate) fn copy(rows: Rows) -> Store {
        Store { rows, home: Home::Copy }
    }

    fn check_schema(&mut self, place: &str) -> anyhow::Result<()> {
        match self.number(SCHEMA_KEY)? {
            Some(SCHEMA) => Ok(()),
            Some(schema) => anyhow::bail!(
                "{place} was written by another version (layout {schema}, this build knows {SCHEMA})"
            ),
            None => self.commit(vec![number(SCHEMA_KEY, SCHEMA)]),
        }
    }

    /// Begins a new term and returns what was remembered.
    pub(crate) fn begin_term(&mut self, now_unix_s: u64) -> anyhow::Result<Memory> {
        let term = match &self.home {
            Home::File(_) | Home::Copy => {
                // A file restored from a backup counts from the past; relays follow nobody of an older term than they know.
                let term = (self.number(TERM)?.unwrap_or(0) + 1).max(now_unix_s);
                self.commit(vec![number(TERM, term)])?;
                term
            }
            Home::Shared(shared) => shared.term(),
        };
        let floor = |key: &str, what: &'static str| {
            let floor = self.number(key)?.unwrap_or(0);
            u32::try_from(floor).with_context(|| format!("the stored {what} is damaged"))
        };
        let (epoch_floor, room_floor) = (floor(EPOCH_FLOOR, "epoch")?, floor(ROOM_FLOOR, "room id")?);
        let mut nodes = Vec::new();
        let mut quarantined = BTreeMap::new();
        for (index, record) in self.rows.all(Table::Nodes) {
            let StoredNode { name, region, addresses, cordoned, draining, quarantined_unix_s } =
                parsed(record)?;
            let node = NodeIndex(node_of(index).context("a stored node index is damaged")?);
            if let Some(since_unix_s) = quarantined_unix_s {
                // A clock that was set back makes it longer, never shorter.
                quarantined.insert(node, Duration::from_secs(now_unix_s.saturating_sub(since_unix_s)));
            }
            nodes.push(NodeRecord { node, name, region, addresses, cordoned, draining });
        }
        let (epoch_floor, room_floor) = (Epoch(epoch_floor), RoomId(room_floor));
        Ok(Memory { term, nodes, quarantined, epoch_floor, room_floor })
    }

    /// Remembers what the core asks for, all of it or nothing.
    pub(crate) fn apply(&mut self, updates: &[StoreUpdate], now_unix_s: u64) -> anyhow::Result<()> {
        // As they will be: one update may build on the one before.
        let mut nodes: BTreeMap<u16, Option<Vec<u8>>> = BTreeMap::new();
        let mut changes = Vec::new();
        for update in updates {
            match update {
                StoreUpdate::Node(NodeRecord { node, name, region, addresses, cordoned, draining }) => {
                    let record = StoredNode {
                        name: name.clone(),
                        region: region.clone(),
                        addresses: addresses.clone(),
                        cordoned: *cordoned,
                        draining: *draining,
                        quarantined_unix_s: None,
                    };
                    nodes.insert(node.0, Some(json(&record)));
                }
                StoreUpdate::NodeQuarantined(node) => {
                    let stored = self.rows.get(Table::Nodes, &node_key(node.0));
                    let record = nodes.get(&node.0).map_or(stored, |record| record.as_deref());
                    if let Some(record) = record
                        && let Ok(record) = serde_json::from_slice::<StoredNode>(record)
                    {
                        let record = StoredNode { quarantined_unix_s: Some(now_unix_s), ..record };
                        nodes.insert(node.0, Some(json(&record)));
                    }
                }
                StoreUpdate::NodeFreed(node) => {
                    nodes.insert(node.0, None);
                }
                StoreUpdate::EpochFloor(epoch) => changes.push(number(EPOCH_FLOOR, u64::from(epoch.0))),
                StoreUpdate::RoomFloor(room) => changes.push(number(ROOM_FLOOR, u64::from(room.0))),
            }
        }
        let nodes =
            nodes.into_iter().map(|(node, value)| Change { table: Table::Nodes, key: node_key(node), value });
        changes.extend(nodes);
        self.commit(changes)
    }

    /// A secret or a certificate kept under this name.
    pub(crate) fn secret(&self, name: &str) -> Option<Vec<u8>> {
        self.rows.get(Table::Secrets, name).map(<[u8]>::to_vec)
    }

    /// Secrets whose name begins like this, in the order of their names.
    pub(crate) fn secrets(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let named = self.rows.all(Table::Secrets).filter(|(name, _)| name.starts_with(prefix));
        named.map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
    }

    /// Forgets a secret.
    pub(crate) fn remove_secret(&mut self, name: &str) -> anyhow::Result<()> {
        self.commit(vec![Change::remove(Table::Secrets, name)])
    }

    /// Keeps what a new overlay begins with.
    pub(crate) fn found(&mut self, changes: Vec<Change>) -> anyhow::Result<()> {
        self.commit(changes)
    }

    /// Keeps secrets and certificates, all of them or none.
    pub(crate) fn set_secrets(&mut self, secrets: &[(&str, &[u8])]) -> anyhow::Result<()> {
        self.commit(secret_changes(secrets))
    }

    /// Remembers a join token by the hash of its secret and forgets those that expired. `false` if there are too many.
    pub(crate) fn add_join_token(
        &mut self,
        hash: &[u8; 32],
        record: &JoinRecord,
        now_unix_s: u64,
    ) -> anyhow::Result<bool> {
        let expired =
            self.unwanted::<JoinRecord>(Table::JoinTokens, |record| record.expires_unix_s <= now_unix_s);
        if self.rows.all(Table::JoinTokens).count() - expired.len() >= JOIN_TOKENS_MAX {
            self.commit(expired)?;
            return Ok(false);
        }
        let mut changes = vec![Change::put(Table::JoinTokens, hex(hash), json(record))];
        changes.extend(expired);
        self.commit(changes)?;
        Ok(true)
    }

    /// What the join token whose secret has this hash is worth.
    pub(crate) fn join_token(&self, hash: &[u8; 32], now_unix_s: u64) -> anyhow::Result<JoinState> {
        let key = hex(hash);
        if let Some(record) = self.rows.get(Table::JoinTokens, &key) {
            let record: JoinRecord = parsed(record)?;
            let fresh = record.expires_unix_s > now_unix_s;
            return Ok(if fresh { JoinState::Fresh(record) } else { JoinState::Void });
        }
        if let Some(record) = self.rows.get(Table::SpentTokens, &key) {
            let SpentRecord { token, key_sha256, spent_unix_s } = parsed(record)?;
            if spent_unix_s + REPEAT_S > now_unix_s {
                return Ok(JoinState::Spent(token, key_sha256));
            }
        }
        Ok(JoinState::Void)
    }

    /// Public keys of other token services.
    pub(crate) fn token_keys(&self) -> anyhow::Result<Vec<TokenKey>> {
        let keys = self.rows.all(Table::TokenKeys).map(|(id, key)| {
            let StoredTokenKey { public_key, namespace } = parsed(key)?;
            Ok(TokenKey { id: id.to_owned(), public_key, namespace })
        });
        keys.collect()
    }

    /// Registers a public key; replaces the one of the same id.
    pub(crate) fn set_token_key(&mut self, key: &TokenKey) -> anyhow::Result<()> {
        let record = StoredTokenKey { public_key: key.public_key, namespace: key.namespace.clone() };
        self.commit(vec![Change::put(Table::TokenKeys, &key.id, json(&record))])
    }

    /// Forgets a public key. `false` if there was none of this id.
    pub(crate) fn remove_token_key(&mut self, id: &str) -> anyhow::Result<bool> {
        if self.rows.get(Table::TokenKeys, id).is_none() {
            return Ok(false);
        }
        self.commit(vec![Change::remove(Table::TokenKeys, id)])?;
        Ok(true)
    }

    /// What counts as a good route, as it was written last.
    pub(crate) fn policies(&self) -> anyhow::Result<Option<PolicyDocument>> {
        self.rows.get(Table::Policies, POLICIES).map(parsed).transpose()
    }

    /// Keeps that.
    pub(crate) fn set_policies(&mut self, document: &PolicyDocument) -> anyhow::Result<()> {
        self.commit(vec![Change::put(Table::Policies, POLICIES, json(document))])
    }

    /// Keeps what a file says, unless it said the same when it was read last: what was changed since then stays. `true` if it
    /// is news.
    pub(crate) fn take_policies(&mut self, document: &PolicyDocument) -> anyhow::Result<bool> {
        let row = json(document);
        if self.rows.get(Table::Policies, POLICIES_OF_FILE) == Some(row.as_slice()) {
            return Ok(false);
        }
        let keys = [POLICIES, POLICIES_OF_FILE];
        self.commit(keys.map(|key| Change::put(Table::Policies, key, row.clone())).to_vec())?;
        Ok(true)
    }

    /// Tokens of the admin API, by their hash.
    pub(crate) fn api_tokens(&self) -> anyhow::Result<Vec<(TokenHash, ApiTokenRecord)>> {
        let tokens = self.rows.all(Table::ApiTokens).map(|(hash, record)| {
            let hash = unhex(hash).context("a token of the store is damaged")?;
            Ok((hash, parsed(record)?))
        });
        tokens.collect()
    }

    /// Remembers a token of the admin API and forgets those that expired.
    pub(crate) fn add_api_token(
        &mut self,
        hash: &TokenHash,
        record: &ApiTokenRecord,
        now_unix_s: u64,
    ) -> anyhow::Result<()> {
        let mut changes = vec![Change::put(Table::ApiTokens, hex(hash), json(record))];
        let expired = self.unwanted::<ApiTokenRecord>(Table::ApiTokens, |record| !record.holds(now_unix_s));
        changes.extend(expired);
        self.commit(changes)
    }

    /// Forgets a token of the admin API.
    pub(crate) fn remove_api_token(&mut self, hash: &TokenHash) -> anyhow::Result<()> {
        self.commit(vec![Change::remove(Table::ApiTokens, hex(hash))])
    }

    /// Removes the rows that are so, or that cannot be read.
    fn unwanted<T: DeserializeOwned>(&self, table: Table, is: impl Fn(&T) -> bool) -> Vec<Change> {
        let rows = self.rows.all(table);
        rows.filter(|(_, record)| serde_json::from_slice::<T>(record).map_or(true, |record| is(&record)))
            .map(|(key, _)| Change::remove(table, key))
            .collect()
    }

    fn number(&self, key: &str) -> anyhow::Result<Option<u64>> {
        let number = self
            .rows
            .get(Table::Numbers, key)
            .map(|value| number_of(value).with_context(|| format!("the stored {key} is damaged")));
        number.transpose()
    }

    /// Makes changes durable, all of them or none. What matters most stands first: an etcd takes so many at once, and the
    /// rest after them.
    fn commit(&mut self, changes: Vec<Change>) -> anyhow::Result<()> {
        match &mut self.home {
            Home::File(file) => file.commit(&changes)?,
            Home::Shared(shared) => shared.commit(&changes)?,
            Home::Copy => anyhow::bail!("a controller that does not lead writes nothing"),
        }
        self.rows.change(changes);
        Ok(())
    }
}

/// What keeps secrets and certificates.
pub(crate) fn secret_changes(secrets: &[(&str, &[u8])]) -> Vec<Change> {
    secrets.iter().map(|(name, value)| Change::put(Table::Secrets, *name, value.to_vec())).collect()
}

fn number(key: &str, value: u64) -> Change {
    Change::put(Table::Numbers, key, value.to_string().into_bytes())
}

fn number_of(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Digits enough that the order of keys is that of indices.
fn node_key(node: u16) -> String {
    format!("{node:05}")
}

fn node_of(key: &str) -> Option<u16> {
    key.parse().ok()
}

/// Reads [`hex`] of any length.
fn bytes_of(key: &str) -> Option<Vec<u8>> {
    let pairs = key.as_bytes().chunks(2);
    pairs.map(|pair| std::str::from_utf8(pair).ok().and_then(unhex::<1>).map(|[byte]| byte)).collect()
}

fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records are plain values")
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(bytes).context("a record of the store is damaged; restore it from the backup")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(node: u16, name: &str) -> NodeRecord {
        let addresses = vec!["192.0.2.1:4700".parse().expect("an address")];
        NodeRecord {
            node: NodeIndex(node),
            name: name.to_owned(),
            region: "eu".to_owned(),
            addresses,
            cordoned: node % 2 == 1,
            draining: node % 4 == 3,
        }
    }

    #[test]
    fn everything_is_there_after_reopening() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("store.redb");
        let key = TokenKey { id: "ops".to_owned(), public_key: [9; 32], namespace: Some("demo".to_owned()) };
        {
            let mut store = Store::open(&file)?;
            assert_eq!(store.begin_term(10)?.term, 10);
            let updates = [
                StoreUpdate::Node(record(1, "fra-1")),
                StoreUpdate::Node(record(2, "sin-1")),
                StoreUpdate::EpochFloor(Epoch(512)),
                StoreUpdate::RoomFloor(RoomId(64)),
            ];
            store.apply(&updates, 10)?;
            store.apply(&[StoreUpdate::Node(record(2, "sin-2"))], 11)?;
            store.set_secrets(&[
                ("ca-certificate", b"der"),
                ("key/2", b"2"),
                ("key", b"1"),
                ("kez", b"3"),
            ])?;
            store.set_token_key(&key)?;
        }
        let mut store = Store::open(&file)?;
        let memory = store.begin_term(20)?;
        assert_eq!(memory.term, 20);
        assert!(memory.quarantined.is_empty());
        assert_eq!(memory.nodes, [record(1, "fra-1"), record(2, "sin-2")]);
        assert_eq!((memory.epoch_floor, memory.room_floor), (Epoch(512), RoomId(64)));
        assert_eq!(store.secret("ca-certificate").as_deref(), Some(b"der".as_slice()));
        assert_eq!(store.secret("none"), None);
        let keys = [("key".to_owned(), b"1".to_vec()), ("key/2".to_owned(), b"2".to_vec())];
        assert_eq!(store.secrets("key"), keys);
        store.remove_secret("key")?;
        assert_eq!(store.secrets("key"), keys[1..]);
        assert_eq!(store.token_keys()?, [key]);
        assert!(store.remove_token_key("ops")? && !store.remove_token_key("ops")?);
        Ok(())
    }

    #[test]
    fn terms_grow_with_each_start_and_beyond_those_that_a_backup_does_not_know() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (file, backup) = (folder.path().join("store.redb"), folder.path().join("backup.redb"));
        let begin =
            |file: &Path, now_unix_s| Store::open(file)?.begin_term(now_unix_s).map(|memory| memory.term);
        let first = begin(&file, 1_000)?;
        std::fs::copy(&file, &backup)?;
        // Twice in a second, then with a clock that was set back.
        let later = [begin(&file, 1_010)?, begin(&file, 1_010)?, begin(&file, 900)?];
        assert!([first].iter().chain(&later).is_sorted_by(|a, b| a < b), "{first} {later:?}");
        let restored = begin(&backup, 2_000)?;
        assert!(restored > later[2], "{restored} after {later:?}");
        Ok(())
    }

    #[test]
    fn quarantines_survive_a_restart_and_end_when_the_relay_is_back_or_forgotten() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("store.redb");
        {
            let mut store = Store::open(&file)?;
            let nodes = [record(1, "fra-1"), record(2, "sin-1"), record(3, "gru-1")];
            store.apply(&nodes.map(StoreUpdate::Node), 1_000)?;
            let all = [1, 2, 3].map(|node| StoreUpdate::NodeQuarantined(NodeIndex(node)));
            store.apply(&all, 1_100)?;
            store.apply(&[StoreUpdate::Node(record(2, "sin-1"))], 1_200)?;
            store.apply(
                &[StoreUpdate::NodeFreed(NodeIndex(3)), StoreUpdate::NodeQuarantined(NodeIndex(9))],
                1_300,
            )?;
        }
        let mut store = Store::open(&file)?;
        let memory = store.begin_term(1_500)?;
        assert_eq!(memory.nodes, [record(1, "fra-1"), record(2, "sin-1")]);
        assert_eq!(memory.quarantined, BTreeMap::from([(NodeIndex(1), Duration::from_secs(400))]));
        let set_back = store.begin_term(1_000)?;
        assert_eq!(set_back.quarantined[&NodeIndex(1)], Duration::ZERO);
        Ok(())
    }

    #[test]
    fn expired_join_tokens_make_room() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut store = Store::open(&folder.path().join("store.redb"))?;
        let token = JoinRecord { name: "fra-1".to_owned(), expires_unix_s: 100, ..JoinRecord::default() };
        assert!(store.add_join_token(&[1; 32], &token, 10)?);
        assert!(store.add_join_token(&[2; 32], &JoinRecord { expires_unix_s: 300, ..token.clone() }, 200)?);
        assert_eq!(store.join_token(&[1; 32], 10)?, JoinState::Void, "expired at 200 and forgotten");
        Ok(())
    }

    #[test]
    fn a_second_process_is_told_who_is_in_the_way() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("store.redb");
        let _first = Store::open(&file)?;
        let error = Store::open(&file).err().expect("locked");
        assert!(error.to_string().contains("another route-controller"), "{error}");
        Ok(())
    }
}
