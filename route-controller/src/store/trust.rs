//! What the store remembers of relays' certificates and of the tokens that lead to them.

use super::{
    CERTIFICATES, CertificateRecord, JOIN_TOKENS, JoinRecord, JoinTokenId, LINES, REPEAT_S, SPENT_TOKENS,
    SpentRecord, Store, json, parsed,
};
use crate::trust::{Certified, Line, Lines};
use control_proto::CERTIFICATE_GRACE;
use redb::{ReadableDatabase as _, ReadableTable as _, Table};

impl Store {
    /// The lines of all names. A name that only a store of an earlier version knows has a line of its newest certificate.
    pub(crate) fn lines(&self) -> anyhow::Result<Lines> {
        use anyhow::Context as _;
        let transaction = self.database.begin_read().context("cannot read the store")?;
        let mut lines = Lines::new();
        for row in transaction.open_table(LINES)?.iter()? {
            let (name, line) = row?;
            lines.insert(name.value().to_owned(), parsed(line.value())?);
        }
        let mut older = Lines::new();
        for row in transaction.open_table(CERTIFICATES)?.iter()? {
            let (serial, record) = row?;
            let CertificateRecord { name, node: _, issued_unix_s, expires_unix_s } = parsed(record.value())?;
            if lines.contains_key(&name) {
                continue;
            }
            let certified = Certified { serial: serial.value().to_vec(), issued_unix_s, expires_unix_s };
            let line = older.entry(name).or_default();
            if line.good.first().is_none_or(|newest| newest.issued_unix_s < issued_unix_s) {
                line.good = vec![certified];
            }
        }
        lines.extend(older);
        Ok(lines)
    }

    /// Remembers a line as it is now, and the certificate that was issued for it, if one was; forgets those that can no
    /// longer even be renewed.
    pub(crate) fn set_line(
        &self,
        name: &str,
        line: &Line,
        issued: Option<(&[u8], &CertificateRecord)>,
        now_unix_s: u64,
    ) -> anyhow::Result<()> {
        self.write(|transaction| {
            transaction.open_table(LINES)?.insert(name, json(line).as_slice())?;
            let mut certificates = transaction.open_table(CERTIFICATES)?;
            if let Some((serial, certificate)) = issued {
                remember(&mut certificates, serial, certificate, now_unix_s)?;
            }
            Ok(())
        })
    }

    /// Join tokens that wait to be used, in no particular order.
    pub(crate) fn join_tokens(&self, now_unix_s: u64) -> anyhow::Result<Vec<(JoinTokenId, JoinRecord)>> {
        use anyhow::Context as _;
        let transaction = self.database.begin_read().context("cannot read the store")?;
        let mut tokens = Vec::new();
        for row in transaction.open_table(JOIN_TOKENS)?.iter()? {
            let (hash, record) = row?;
            let record: JoinRecord = parsed(record.value())?;
            let hash = hash.value().try_into().context("a join token of the store is damaged")?;
            if record.expires_unix_s > now_unix_s {
                tokens.push((JoinTokenId::of(hash), record));
            }
        }
        Ok(tokens)
    }

    /// Forgets a join token that waits to be used. `None` if there is none of this id.
    pub(crate) fn remove_join_token(&self, id: JoinTokenId) -> anyhow::Result<Option<JoinRecord>> {
        self.write(|transaction| {
            let mut removed = None;
            transaction.open_table(JOIN_TOKENS)?.retain(|hash, record| {
                let named = id.names(hash);
                if named {
                    removed = serde_json::from_slice(record).ok();
                }
                !named
            })?;
            Ok(removed)
        })
    }

    /// Spends a join token for the public key with this hash and remembers the line that begins, all of it or nothing.
    /// Spending it again for the same key a moment later is the same.
    pub(crate) fn spend_join_token(
        &self,
        hash: &[u8; 32],
        key_sha256: &[u8; 32],
        serial: &[u8],
        certificate: &CertificateRecord,
        line: &Line,
        now_unix_s: u64,
    ) -> anyhow::Result<()> {
        self.write(|transaction| {
            let mut spent = transaction.open_table(SPENT_TOKENS)?;
            spent.retain(|_, record| {
                serde_json::from_slice::<SpentRecord>(record)
                    .is_ok_and(|record| record.spent_unix_s + REPEAT_S > now_unix_s)
            })?;
            if let Some(token) = transaction.open_table(JOIN_TOKENS)?.remove(hash.as_slice())?
                && let Ok(token) = serde_json::from_slice(token.value())
            {
                let record = SpentRecord { token, key_sha256: *key_sha256, spent_unix_s: now_unix_s };
                spent.insert(hash.as_slice(), json(&record).as_slice())?;
            }
            remember(&mut transaction.open_table(CERTIFICATES)?, serial, certificate, now_unix_s)?;
            transaction.open_table(LINES)?.insert(certificate.name.as_str(), json(line).as_slice())?;
            Ok(())
        })
    }

    /// Remembers that a name is revoked, with every join token for it.
    pub(crate) fn revoke(&self, name: &str, line: &Line) -> anyhow::Result<()> {
        self.write(|transaction| {
            transaction.open_table(LINES)?.insert(name, json(line).as_slice())?;
            transaction.open_table(JOIN_TOKENS)?.retain(|_, record| {
                !serde_json::from_slice::<JoinRecord>(record).is_ok_and(|record| record.name == name)
            })?;
            transaction.open_table(SPENT_TOKENS)?.retain(|_, record| {
                !serde_json::from_slice::<SpentRecord>(record).is_ok_and(|record| record.token.name == name)
            })?;
            Ok(())
        })
    }
}

/// Adds a certificate and forgets those that can no longer even be renewed.
fn remember(
    certificates: &mut Table<'_, &'static [u8], &'static [u8]>,
    serial: &[u8],
    certificate: &CertificateRecord,
    now_unix_s: u64,
) -> Result<(), redb::Error> {
    certificates.retain(|_, record| {
        serde_json::from_slice::<CertificateRecord>(record)
            .is_ok_and(|record| record.expires_unix_s + CERTIFICATE_GRACE.as_secs() > now_unix_s)
    })?;
    certificates.insert(serial, json(certificate).as_slice())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::JoinState;

    fn open(folder: &tempfile::TempDir) -> anyhow::Result<Store> {
        Store::open(&folder.path().join("store.redb"))
    }

    fn record(issued_unix_s: u64) -> CertificateRecord {
        let expires_unix_s = issued_unix_s + 100;
        CertificateRecord { name: "fra-1".to_owned(), node: 1, issued_unix_s, expires_unix_s }
    }

    fn line(serial: &[u8], issued_unix_s: u64) -> Line {
        let expires_unix_s = issued_unix_s + 100;
        Line::begin(Certified { serial: serial.to_vec(), issued_unix_s, expires_unix_s })
    }

    fn token() -> JoinRecord {
        JoinRecord { name: "fra-1".to_owned(), expires_unix_s: 100, ..JoinRecord::default() }
    }

    #[test]
    fn a_join_token_is_spent_once() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let store = open(&folder)?;
        assert!(store.add_join_token(&[1; 32], &token(), 10)?);
        assert_eq!(store.join_token(&[1; 32], 99)?, JoinState::Fresh(token()));
        assert_eq!(store.join_token(&[1; 32], 100)?, JoinState::Void, "expired");
        assert_eq!(store.join_token(&[2; 32], 10)?, JoinState::Void, "another secret");
        store.spend_join_token(&[1; 32], &[7; 32], b"a", &record(5), &line(b"a", 5), 5)?;
        assert_eq!(store.join_token(&[1; 32], 10)?, JoinState::Spent(token(), [7; 32]));
        store.spend_join_token(&[1; 32], &[8; 32], b"b", &record(5), &line(b"b", 5), 5)?;
        assert!(
            matches!(store.join_token(&[1; 32], 10)?, JoinState::Spent(_, [7, ..])),
            "who spent it stays"
        );
        assert_eq!(store.join_token(&[1; 32], 5 + REPEAT_S)?, JoinState::Void, "it is too late to ask again");
        Ok(())
    }

    #[test]
    fn a_revocation_takes_the_names_tokens_with_it() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let other = JoinRecord { name: "sin-1".to_owned(), ..token() };
        let mut revoked = line(b"a", 5);
        {
            let store = open(&folder)?;
            for (secret, record) in [(1, token()), (2, token()), (3, other.clone())] {
                assert!(store.add_join_token(&[secret; 32], &record, 10)?);
            }
            store.spend_join_token(&[1; 32], &[7; 32], b"a", &record(5), &revoked, 5)?;
            revoked.revoke(20);
            store.revoke("fra-1", &revoked)?;
        }
        let store = open(&folder)?;
        assert_eq!(store.lines()?.get("fra-1"), Some(&revoked));
        assert_eq!(store.join_token(&[1; 32], 10)?, JoinState::Void, "not even its holder may ask again");
        assert_eq!(store.join_token(&[2; 32], 10)?, JoinState::Void);
        assert_eq!(store.join_token(&[3; 32], 10)?, JoinState::Fresh(other));
        Ok(())
    }

    fn certificates(store: &Store) -> anyhow::Result<Vec<Vec<u8>>> {
        let transaction = store.database.begin_read()?;
        let table = transaction.open_table(CERTIFICATES)?;
        table.iter()?.map(|row| Ok(row?.0.value().to_vec())).collect()
    }

    #[test]
    fn certificates_that_nobody_can_use_are_forgotten() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let store = open(&folder)?;
        let week = CERTIFICATE_GRACE.as_secs();
        for (serial, issued) in [(b"a", 1_000), (b"b", 2_000), (b"c", 1_100 + week)] {
            let line = line(serial, issued);
            store.set_line("fra-1", &line, Some((serial, &record(issued))), issued)?;
        }
        assert_eq!(certificates(&store)?, [b"b".to_vec(), b"c".to_vec()]);
        // Joins alone forget them as well: relays that are replaced often may never renew.
        let now = 2_100 + week;
        store.spend_join_token(&[1; 32], &[7; 32], b"d", &record(now), &line(b"d", now), now)?;
        assert_eq!(certificates(&store)?, [b"c".to_vec(), b"d".to_vec()]);
        Ok(())
    }

    #[test]
    fn a_join_token_is_listed_until_it_is_used_revoked_or_expired() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let store = open(&folder)?;
        let lasting = JoinRecord { expires_unix_s: 200, ..token() };
        for (secret, record) in [(1, token()), (2, lasting.clone()), (3, lasting.clone())] {
            assert!(store.add_join_token(&[secret; 32], &record, 10)?);
        }
        let ids = |now| -> anyhow::Result<Vec<u8>> {
            let mut ids: Vec<u8> = store.join_tokens(now)?.iter().map(|(id, _)| id.0[0]).collect();
            ids.sort_unstable();
            Ok(ids)
        };
        assert_eq!((ids(10)?, ids(100)?), (vec![1, 2, 3], vec![2, 3]));
        assert_eq!(store.remove_join_token(JoinTokenId([2; 8]))?, Some(lasting));
        assert_eq!(store.remove_join_token(JoinTokenId([2; 8]))?, None);
        assert_eq!(store.join_token(&[2; 32], 10)?, JoinState::Void);
        store.spend_join_token(&[3; 32], &[7; 32], b"a", &record(5), &line(b"a", 5), 5)?;
        assert_eq!(ids(10)?, [1]);
        Ok(())
    }

    #[test]
    fn a_store_of_an_earlier_version_knows_the_newest_certificate() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let store = open(&folder)?;
        store.write(|transaction| {
            let mut table = transaction.open_table(CERTIFICATES)?;
            for (serial, issued) in [(b"b", 2_000), (b"a", 1_000)] {
                table.insert(serial.as_slice(), json(&record(issued)).as_slice())?;
            }
            Ok(())
        })?;
        let lines = store.lines()?;
        assert_eq!(lines["fra-1"].judge(b"b", 2_010), Ok(()));
        assert!(lines["fra-1"].judge(b"a", 1_010).is_err());
        assert_eq!(lines["fra-1"].rule(), route_core::CertificateRule::default());
        Ok(())
    }
}
