//! What survives a restart: one redb file. Every write is durable when the method returns.
//!
//! Besides what the core asks to remember (relays and their indices, floors of epochs and room ids), there are the term,
//! the CA and the token signing key (private halves sealed by the [`Vault`](crate::vault::Vault)), join tokens by the
//! hash of their secret, certificates issued and which of them are good, tokens of the admin
//! API by their hash, and public keys of other token services.

mod trust;

use crate::api_tokens::{ApiTokenRecord, TokenHash};
use anyhow::Context as _;
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
};
use route_core::{NodeRecord, StoreUpdate};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use wire_format::control::TokenKey;
use wire_format::{Epoch, NodeIndex, RoomId};

/// Join tokens that wait to be used. More are refused until some expire.
pub(crate) const JOIN_TOKENS_MAX: u64 = 10_000;

/// How long the relay that spent a token may ask for its certificate again, if the answer got lost.
const REPEAT_S: u64 = 600;

/// Layout of the tables below; another build's file is refused, not guessed at.
const SCHEMA: u64 = 1;

const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const SECRETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("secrets");
const NODES: TableDefinition<'_, u16, &[u8]> = TableDefinition::new("nodes");
const JOIN_TOKENS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("join_tokens");
const SPENT_TOKENS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("spent_tokens");
const CERTIFICATES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("certificates");
const LINES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("certificate_lines");
const TOKEN_KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("token_keys");

const API_TOKENS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("api_tokens");

const SCHEMA_KEY: &str = "schema";
const TERM: &str = "term";
const EPOCH_FLOOR: &str = "epoch_floor";
const ROOM_FLOOR: &str = "room_floor";

/// The file.
pub(crate) struct Store {
    database: Database,
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

    fn names(self, secret_hash: &[u8]) -> bool {
        secret_hash.starts_with(&self.0)
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
        let database = Database::create(file).map_err(|error| {
            if matches!(error, redb::DatabaseError::DatabaseAlreadyOpen) {
                return anyhow::anyhow!(
                    "{} is in use: another route-controller runs with this `state_dir`; stop it, or give this one a \
                     directory of its own",
                    file.display()
                );
            }
            anyhow::Error::new(error).context(format!("cannot open {}", file.display()))
        })?;
        let store = Store { database };
        let schema = store.write(|transaction| {
            transaction.open_table(SECRETS)?;
            transaction.open_table(NODES)?;
            transaction.open_table(JOIN_TOKENS)?;
            transaction.open_table(SPENT_TOKENS)?;
            transaction.open_table(CERTIFICATES)?;
            transaction.open_table(LINES)?;
            transaction.open_table(TOKEN_KEYS)?;
            transaction.open_table(API_TOKENS)?;
            let mut numbers = transaction.open_table(NUMBERS)?;
            let schema = numbers.get(SCHEMA_KEY)?.map_or(SCHEMA, |schema| schema.value());
            numbers.insert(SCHEMA_KEY, schema)?;
            Ok(schema)
        })?;
        anyhow::ensure!(
            schema == SCHEMA,
            "{} was written by another version (layout {schema}, this build knows {SCHEMA})",
            file.display()
        );
        Ok(store)
    }

    /// Begins a new term and returns what was remembered.
    pub(crate) fn begin_term(&self, now_unix_s: u64) -> anyhow::Result<Memory> {
        let (term, epoch_floor, room_floor) = self.write(|transaction| {
            let mut numbers = transaction.open_table(NUMBERS)?;
            let term = numbers.get(TERM)?.map_or(0, |term| term.value()) + 1;
            numbers.insert(TERM, term)?;
            let epoch_floor = numbers.get(EPOCH_FLOOR)?.map_or(0, |floor| floor.value());
            let room_floor = numbers.get(ROOM_FLOOR)?.map_or(0, |floor| floor.value());
            Ok((term, epoch_floor, room_floor))
        })?;
        let transaction = self.database.begin_read().context("cannot read the store")?;
        let table = transaction.open_table(NODES)?;
        let mut nodes = Vec::new();
        let mut quarantined = BTreeMap::new();
        for row in table.iter()? {
            let (index, record) = row?;
            let StoredNode { name, region, addresses, cordoned, quarantined_unix_s } =
                parsed(record.value())?;
            let node = NodeIndex(index.value());
            if let Some(since_unix_s) = quarantined_unix_s {
                // A clock that was set back makes it longer, never shorter.
                quarantined.insert(node, Duration::from_secs(now_unix_s.saturating_sub(since_unix_s)));
            }
            nodes.push(NodeRecord { node, name, region, addresses, cordoned });
        }
        Ok(Memory {
            term,
            nodes,
            quarantined,
            epoch_floor: Epoch(u32::try_from(epoch_floor).context("the stored epoch is damaged")?),
            room_floor: RoomId(u32::try_from(room_floor).context("the stored room id is damaged")?),
        })
    }

    /// Remembers what the core asks for, all of it or nothing.
    pub(crate) fn apply(&self, updates: &[StoreUpdate], now_unix_s: u64) -> anyhow::Result<()> {
        self.write(|transaction| {
            let mut numbers = transaction.open_table(NUMBERS)?;
            let mut nodes = transaction.open_table(NODES)?;
            for update in updates {
                match update {
                    StoreUpdate::Node(NodeRecord { node, name, region, addresses, cordoned }) => {
                        let record = StoredNode {
                            name: name.clone(),
                            region: region.clone(),
                            addresses: addresses.clone(),
                            cordoned: *cordoned,
                            quarantined_unix_s: None,
                        };
                        nodes.insert(node.0, json(&record).as_slice())?;
                    }
                    StoreUpdate::NodeQuarantined(node) => {
                        let record = nodes.get(node.0)?.map(|record| record.value().to_vec());
                        if let Some(record) = record
                            && let Ok(record) = serde_json::from_slice::<StoredNode>(&record)
                        {
                            let record = StoredNode { quarantined_unix_s: Some(now_unix_s), ..record };
                            nodes.insert(node.0, json(&record).as_slice())?;
                        }
                    }
                    StoreUpdate::NodeFreed(node) => {
                        nodes.remove(node.0)?;
                    }
                    StoreUpdate::EpochFloor(epoch) => {
                        numbers.insert(EPOCH_FLOOR, u64::from(epoch.0))?;
                    }
                    StoreUpdate::RoomFloor(room) => {
                        numbers.insert(ROOM_FLOOR, u64::from(room.0))?;
                    }
                }
            }
            Ok(())
        })
    }

    /// A secret or a certificate kept under this name.
    pub(crate) fn secret(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let transaction = self.database.begin_read().context("cannot read the store")?;
        let table = transaction.open_table(SECRETS)?;
        Ok(table.get(name)?.map(|value| value.value().to_vec()))
    }

    /// Secrets whose name begins like this, in the order of their names.
    pub(crate) fn secrets(&self, prefix: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let transaction = self.database.begin_read().context("cannot read the store")?;
        let mut secrets = Vec::new();
        for row in transaction.open_table(SECRETS)?.range(prefix..)? {
            let (name, value) = row?;
            if !name.value().starts_with(prefix) {
                break;
            }
            secrets.push((name.value().to_owned(), value.value().to_vec()));
        }
        Ok(secrets)
    }

    /// Forgets a secret.
    pub(crate) fn remove_secret(&self, name: &str) -> anyhow::Result<()> {
        self.write(|transaction| {
            transaction.open_table(SECRETS)?.remove(name)?;
            Ok(())
        })
    }

    /// Keeps secrets and certificates, all of them or none.
    pub(crate) fn set_secrets(&self, secrets: &[(&str, &[u8])]) -> anyhow::Result<()> {
        self.write(|transaction| {
            let mut table = transaction.open_table(SECRETS)?;
            for (name, value) in secrets {
                table.insert(*name, *value)?;
            }
            Ok(())
        })
    }

    /// Remembers a join token by the hash of its secret and forgets those that expired. `false` if there are too many.
    pub(crate) fn add_join_token(
        &self,
        hash: &[u8; 32],
        record: &JoinRecord,
        now_unix_s: u64,
    ) -> anyhow::Result<bool> {
        self.write(|transaction| {
            let mut table = transaction.open_table(JOIN_TOKENS)?;
            table.retain(|_, record| {
                serde_json::from_slice::<JoinRecord>(record)
                    .is_ok_and(|record| record.expires_unix_s > now_unix_s)
            })?;
            if table.len()? >= JOIN_TOKENS_MAX {
                return Ok(false);
            }
            table.insert(hash.as_slice(), json(record).as_slice())?;
            Ok(true)
        })
    }

    /// What the join token whose secret has this hash is worth.
    pub(crate) fn join_token(&self, hash: &[u8; 32], now_unix_s: u64) -> anyhow::Result<JoinState> {
        let transaction = self.database.begin_read().context("cannot read the store")?;
        if let Some(record) = transaction.open_table(JOIN_TOKENS)?.get(hash.as_slice())? {
            let record: JoinRecord = parsed(record.value())?;
            let fresh = record.expires_unix_s > now_unix_s;
            return Ok(if fresh { JoinState::Fresh(record) } else { JoinState::Void });
        }
        if let Some(record) = transaction.open_table(SPENT_TOKENS)?.get(hash.as_slice())? {
            let SpentRecord { token, key_sha256, spent_unix_s } = parsed(record.value())?;
            if spent_unix_s + REPEAT_S > now_unix_s {
                return Ok(JoinState::Spent(token, key_sha256));
            }
        }
        Ok(JoinState::Void)
    }

    /// Public keys of other token services.
    pub(crate) fn token_keys(&self) -> anyhow::Result<Vec<TokenKey>> {
        let transaction = self.database.begin_read().context("cannot read the store")?;
        let table = transaction.open_table(TOKEN_KEYS)?;
        let mut keys = Vec::new();
        for row in table.iter()? {
            let (id, key) = row?;
            let StoredTokenKey { public_key, namespace } = parsed(key.value())?;
            keys.push(TokenKey { id: id.value().to_owned(), public_key, namespace });
        }
        Ok(keys)
    }

    /// Registers a public key; replaces the one of the same id.
    pub(crate) fn set_token_key(&self, key: &TokenKey) -> anyhow::Result<()> {
        let record = StoredTokenKey { public_key: key.public_key, namespace: key.namespace.clone() };
        self.write(|transaction| {
            transaction.open_table(TOKEN_KEYS)?.insert(key.id.as_str(), json(&record).as_slice())?;
            Ok(())
        })
    }

    /// Forgets a public key. `false` if there was none of this id.
    pub(crate) fn remove_token_key(&self, id: &str) -> anyhow::Result<bool> {
        self.write(|transaction| Ok(transaction.open_table(TOKEN_KEYS)?.remove(id)?.is_some()))
    }

    /// Tokens of the admin API, by their hash.
    pub(crate) fn api_tokens(&self) -> anyhow::Result<Vec<(TokenHash, ApiTokenRecord)>> {
        let transaction = self.database.begin_read().context("cannot read the store")?;
        let mut tokens = Vec::new();
        for row in transaction.open_table(API_TOKENS)?.iter()? {
            let (hash, record) = row?;
            let hash = hash.value().try_into().context("a token of the store is damaged")?;
            tokens.push((hash, parsed(record.value())?));
        }
        Ok(tokens)
    }

    /// Remembers a token of the admin API and forgets those that expired.
    pub(crate) fn add_api_token(
        &self,
        hash: &TokenHash,
        record: &ApiTokenRecord,
        now_unix_s: u64,
    ) -> anyhow::Result<()> {
        self.write(|transaction| {
            let mut table = transaction.open_table(API_TOKENS)?;
            table.retain(|_, record| {
                serde_json::from_slice::<ApiTokenRecord>(record).is_ok_and(|record| record.holds(now_unix_s))
            })?;
            table.insert(hash.as_slice(), json(record).as_slice())?;
            Ok(())
        })
    }

    /// Forgets a token of the admin API.
    pub(crate) fn remove_api_token(&self, hash: &TokenHash) -> anyhow::Result<()> {
        self.write(|transaction| {
            transaction.open_table(API_TOKENS)?.remove(hash.as_slice())?;
            Ok(())
        })
    }

    /// Runs `change` and makes it durable before returning.
    fn write<T>(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>,
    ) -> anyhow::Result<T> {
        let outcome = || -> Result<T, redb::Error> {
            let transaction = self.database.begin_write()?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        outcome().context("cannot write the store; is its disk full or read-only?")
    }
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
        }
    }

    #[test]
    fn everything_is_there_after_reopening() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("store.redb");
        let key = TokenKey { id: "ops".to_owned(), public_key: [9; 32], namespace: Some("demo".to_owned()) };
        {
            let store = Store::open(&file)?;
            assert_eq!(store.begin_term(10)?.term, 1);
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
        let store = Store::open(&file)?;
        let memory = store.begin_term(20)?;
        assert_eq!(memory.term, 2);
        assert!(memory.quarantined.is_empty());
        assert_eq!(memory.nodes, [record(1, "fra-1"), record(2, "sin-2")]);
        assert_eq!((memory.epoch_floor, memory.room_floor), (Epoch(512), RoomId(64)));
        assert_eq!(store.secret("ca-certificate")?.as_deref(), Some(b"der".as_slice()));
        assert_eq!(store.secret("none")?, None);
        let keys = [("key".to_owned(), b"1".to_vec()), ("key/2".to_owned(), b"2".to_vec())];
        assert_eq!(store.secrets("key")?, keys);
        store.remove_secret("key")?;
        assert_eq!(store.secrets("key")?, keys[1..]);
        assert_eq!(store.token_keys()?, [key]);
        assert!(store.remove_token_key("ops")? && !store.remove_token_key("ops")?);
        Ok(())
    }

    #[test]
    fn quarantines_survive_a_restart_and_end_when_the_relay_is_back_or_forgotten() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("store.redb");
        {
            let store = Store::open(&file)?;
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
        let store = Store::open(&file)?;
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
        let store = Store::open(&folder.path().join("store.redb"))?;
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
