//! What the store remembers of relays' certificates and of the tokens that lead to them.

use super::{
    CertificateRecord, Change, JoinRecord, JoinTokenId, REPEAT_S, SpentRecord, Store, Table, bytes_of, json,
    parsed,
};
use crate::tokens::{hex, unhex};
use crate::trust::{Certified, Line, Lines};
use anyhow::Context as _;
use control_proto::CERTIFICATE_GRACE;

impl Store {
    /// The lines of all names. A name that only a store of an earlier version knows has a line of its newest certificate.
    pub(crate) fn lines(&self) -> anyhow::Result<Lines> {
        let mut lines = Lines::new();
        for (name, line) in self.rows.all(Table::Lines) {
            lines.insert(name.to_owned(), parsed(line)?);
        }
        let mut older = Lines::new();
        for (serial, record) in self.rows.all(Table::Certificates) {
            let CertificateRecord { name, node: _, issued_unix_s, expires_unix_s } = parsed(record)?;
            if lines.contains_key(&name) {
                continue;
            }
            let serial = bytes_of(serial).context("a serial number of the store is damaged")?;
            let certified = Certified { serial, issued_unix_s, expires_unix_s };
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
        &mut self,
        name: &str,
        line: &Line,
        issued: Option<(&[u8], &CertificateRecord)>,
        now_unix_s: u64,
    ) -> anyhow::Result<()> {
        let mut changes = vec![Change::put(Table::Lines, name, json(line))];
        if let Some((serial, certificate)) = issued {
            changes.extend(self.remember(serial, certificate, now_unix_s));
        }
        self.commit(changes)
    }

    /// Join tokens that wait to be used, in no particular order.
    pub(crate) fn join_tokens(&self, now_unix_s: u64) -> anyhow::Result<Vec<(JoinTokenId, JoinRecord)>> {
        let mut tokens = Vec::new();
        for (hash, record) in self.rows.all(Table::JoinTokens) {
            let record: JoinRecord = parsed(record)?;
            let hash = unhex(hash).context("a join token of the store is damaged")?;
            if record.expires_unix_s > now_unix_s {
                tokens.push((JoinTokenId::of(&hash), record));
            }
        }
        Ok(tokens)
    }

    /// Forgets a join token that waits to be used. `None` if there is none of this id.
    pub(crate) fn remove_join_token(&mut self, id: JoinTokenId) -> anyhow::Result<Option<JoinRecord>> {
        let named = id.prefix();
        let found = self.rows.all(Table::JoinTokens).find(|(hash, _)| hash.starts_with(&named));
        let Some((hash, record)) = found else { return Ok(None) };
        let record = serde_json::from_slice(record).ok();
        let removed = Change::remove(Table::JoinTokens, hash);
        self.commit(vec![removed])?;
        Ok(record)
    }

    /// Spends a join token for the public key with this hash and remembers the line that begins, all of it or nothing.
    /// Spending it again for the same key a moment later is the same.
    pub(crate) fn spend_join_token(
        &mut self,
        hash: &[u8; 32],
        key_sha256: &[u8; 32],
        serial: &[u8],
        certificate: &CertificateRecord,
        line: &Line,
        now_unix_s: u64,
    ) -> anyhow::Result<()> {
        let key = hex(hash);
        let mut changes = vec![Change::put(Table::Lines, &certificate.name, json(line))];
        if let Some(token) = self.rows.get(Table::JoinTokens, &key) {
            changes.push(Change::remove(Table::JoinTokens, &key));
            if let Ok(token) = serde_json::from_slice(token) {
                let record = SpentRecord { token, key_sha256: *key_sha256, spent_unix_s: now_unix_s };
                changes.push(Change::put(Table::SpentTokens, &key, json(&record)));
            }
        }
        changes.extend(self.remember(serial, certificate, now_unix_s));
        let over = self.unwanted::<SpentRecord>(Table::SpentTokens, |record| {
            record.spent_unix_s + REPEAT_S <= now_unix_s
        });
        // A token that is spent just now is none of them, whatever stood in its place.
        changes.extend(over.into_iter().filter(|change| change.key != key));
        self.commit(changes)
    }

    /// Remembers that a name is revoked, with every join token for it.
    pub(crate) fn revoke(&mut self, name: &str, line: &Line) -> anyhow::Result<()> {
        let mut changes = vec![Change::put(Table::Lines, name, json(line))];
        changes.extend(self.unwanted::<JoinRecord>(Table::JoinTokens, |record| record.name == name));
        changes.extend(self.unwanted::<SpentRecord>(Table::SpentTokens, |record| record.token.name == name));
        self.commit(changes)
    }

    /// Adds a certificate and forgets those that can no longer even be renewed.
    fn remember(&self, serial: &[u8], certificate: &CertificateRecord, now_unix_s: u64) -> Vec<Change> {
        let mut changes = vec![Change::put(Table::Certificates, hex(serial), json(certificate))];
        let useless = self.unwanted::<CertificateRecord>(Table::Certificates, |record| {
            record.expires_unix_s + CERTIFICATE_GRACE.as_secs() <= now_unix_s
        });
        changes.extend(useless);
        changes
    }
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
        let mut store = open(&folder)?;
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
            let mut store = open(&folder)?;
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
        let serials = store.rows.all(Table::Certificates).map(|(serial, _)| bytes_of(serial));
        serials.collect::<Option<_>>().context("serial numbers are hexadecimal")
    }

    #[test]
    fn certificates_that_nobody_can_use_are_forgotten() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut store = open(&folder)?;
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
        let mut store = open(&folder)?;
        let lasting = JoinRecord { expires_unix_s: 200, ..token() };
        for (secret, record) in [(1, token()), (2, lasting.clone()), (3, lasting.clone())] {
            assert!(store.add_join_token(&[secret; 32], &record, 10)?);
        }
        let ids = |store: &Store, now| -> anyhow::Result<Vec<u8>> {
            let mut ids: Vec<u8> = store.join_tokens(now)?.iter().map(|(id, _)| id.0[0]).collect();
            ids.sort_unstable();
            Ok(ids)
        };
        assert_eq!((ids(&store, 10)?, ids(&store, 100)?), (vec![1, 2, 3], vec![2, 3]));
        assert_eq!(store.remove_join_token(JoinTokenId([2; 8]))?, Some(lasting));
        assert_eq!(store.remove_join_token(JoinTokenId([2; 8]))?, None);
        assert_eq!(store.join_token(&[2; 32], 10)?, JoinState::Void);
        store.spend_join_token(&[3; 32], &[7; 32], b"a", &record(5), &line(b"a", 5), 5)?;
        assert_eq!(ids(&store, 10)?, [1]);
        Ok(())
    }

    #[test]
    fn a_store_of_an_earlier_version_knows_the_newest_certificate() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut store = open(&folder)?;
        for (serial, issued) in [(b"b", 2_000), (b"a", 1_000)] {
            store.commit(vec![Change::put(Table::Certificates, hex(serial), json(&record(issued)))])?;
        }
        let lines = store.lines()?;
        assert_eq!(lines["fra-1"].judge(b"b", 2_010), Ok(()));
        assert!(lines["fra-1"].judge(b"a", 1_010).is_err());
        assert_eq!(lines["fra-1"].rule(), route_core::CertificateRule::default());
        Ok(())
    }
}
