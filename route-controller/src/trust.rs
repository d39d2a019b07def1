//! Which certificates of relays are worth something, by name.
//!
//! A name has one line of certificates: a join begins it, each renewal adds to it. A new session needs the newest of the
//! line, or the one before while the newest has not been used yet, for an answer may get lost on its way to the relay.
//! Whoever renews with a stolen certificate therefore puts the rightful relay out of work, which is noticed, instead of
//! living beside it. A join begins another line and voids everything before it; a revocation voids the line and leaves
//! none.
//!
//! So whatever is void was issued earlier than the newest that is known. A certificate of this CA that is unknown and
//! younger than that was issued by a controller whose store was lost since: this one comes from a backup, and learns.

use control_proto::CERTIFICATE_GRACE;
use route_core::CertificateRule;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A certificate, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Certified {
    pub(crate) serial: Vec<u8>,
    pub(crate) issued_unix_s: u64,
    pub(crate) expires_unix_s: u64,
}

/// The line of one name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Line {
    /// The newest, and before it the one that it follows, until the newest is used.
    pub(crate) good: Vec<Certified>,
    /// Those issued before are void, at links too.
    pub(crate) from_unix_s: u64,
    /// When it was revoked, if nobody joined under that name since.
    pub(crate) revoked_unix_s: Option<u64>,
}

/// Why a certificate is worth nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Worthless {
    Revoked,
    /// There is a newer one, or the controller's store is older than the certificate.
    Superseded,
    Expired,
}

impl Worthless {
    /// For the log and the relay.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Worthless::Revoked => {
                "this relay was revoked: to let it in again, remove its state directory and start it with a new join \
                 token (`relayctl join-token create`)"
            }
            Worthless::Superseded => {
                "another certificate was issued for this relay's name since this one: either it joined anew, then stop \
                 this process; or somebody has a copy of its state directory, then run `relayctl node revoke`, remove \
                 the directory and start it with a new join token"
            }
            Worthless::Expired => {
                "this relay's certificate has expired: renew it first, or, if that is refused too, remove its state \
                 directory and start it with a new join token (`relayctl join-token create`)"
            }
        }
    }
}

impl Line {
    /// When the newest certificate ends.
    pub(crate) fn expires_unix_s(&self) -> Option<u64> {
        self.good.last().map(|newest| newest.expires_unix_s)
    }

    /// What the core, and through it other relays, must know.
    pub(crate) fn rule(&self) -> CertificateRule {
        CertificateRule { from_unix_s: self.from_unix_s, revoked: self.revoked_unix_s.is_some() }
    }

    /// Whether a certificate opens a session now.
    pub(crate) fn judge(&self, serial: &[u8], now_unix_s: u64) -> Result<(), Worthless> {
        if self.revoked_unix_s.is_some() {
            return Err(Worthless::Revoked);
        }
        let known = self.good.iter().find(|good| good.serial == serial).ok_or(Worthless::Superseded)?;
        if known.expires_unix_s < now_unix_s { Err(Worthless::Expired) } else { Ok(()) }
    }

    /// Whether a certificate can be renewed now: as if it had not expired, for a while.
    pub(crate) fn judge_renewal(&self, serial: &[u8], now_unix_s: u64) -> Result<(), Worthless> {
        self.judge(serial, now_unix_s.saturating_sub(CERTIFICATE_GRACE.as_secs()))
    }

    /// A relay shows this certificate, which is of our CA. True if it is younger than anything known, and so the line.
    pub(crate) fn learn(&mut self, shown: &Certified) -> bool {
        let newest = self.good.iter().map(|good| good.issued_unix_s + 1).max().unwrap_or(0);
        let unknown = self.good.iter().all(|good| good.serial != shown.serial);
        let learns = unknown && shown.issued_unix_s >= newest.max(self.from_unix_s);
        if learns {
            self.good = vec![shown.clone()];
            self.revoked_unix_s = None;
        }
        learns
    }

    /// A certificate opened a session. True if that voids the one before it.
    pub(crate) fn used(&mut self, serial: &[u8]) -> bool {
        let newest_is_used = self.good.last().is_some_and(|newest| newest.serial == serial);
        let voids = newest_is_used && self.good.len() > 1;
        if voids {
            self.good.drain(..self.good.len() - 1);
        }
        voids
    }

    /// When the next certificate is to be issued: later than every one before, so that a second tells them apart.
    pub(crate) fn next_issue_unix_s(&self, now_unix_s: u64) -> u64 {
        let last = self.good.iter().map(|good| good.issued_unix_s + 1).max().unwrap_or(0);
        now_unix_s.max(last).max(self.from_unix_s)
    }

    /// A relay joined: its line begins here.
    pub(crate) fn begin(certificate: Certified) -> Line {
        Line { from_unix_s: certificate.issued_unix_s, good: vec![certificate], revoked_unix_s: None }
    }

    /// The relay whose newest certificate has this serial number was given the next one.
    pub(crate) fn follow(&mut self, serial: &[u8], certificate: Certified) {
        self.good.retain(|good| good.serial == serial);
        self.good.push(certificate);
    }

    /// Voids everything.
    pub(crate) fn revoke(&mut self, now_unix_s: u64) {
        self.from_unix_s = self.next_issue_unix_s(now_unix_s);
        self.good.clear();
        self.revoked_unix_s = Some(now_unix_s);
    }
}

/// All lines, by name.
pub(crate) type Lines = BTreeMap<String, Line>;

#[cfg(test)]
mod tests {
    use super::*;

    fn certified(serial: u8, issued_unix_s: u64) -> Certified {
        Certified { serial: vec![serial; 16], issued_unix_s, expires_unix_s: issued_unix_s + 100 }
    }

    const A: [u8; 16] = [1; 16];
    const B: [u8; 16] = [2; 16];
    const C: [u8; 16] = [3; 16];

    #[test]
    fn the_one_before_is_good_until_the_newest_is_used() {
        let mut line = Line::begin(certified(1, 1_000));
        line.follow(&A, certified(2, 1_060));
        assert_eq!((line.judge(&A, 1_070), line.judge(&B, 1_070)), (Ok(()), Ok(())));
        assert!(!line.used(&A), "the answer got lost");
        assert!(line.used(&B) && !line.used(&B));
        assert_eq!(line.judge(&A, 1_070), Err(Worthless::Superseded));
        assert_eq!(line.judge(&B, 1_070), Ok(()));
        assert_eq!(line.judge(&C, 1_070), Err(Worthless::Superseded), "never issued");
    }

    #[test]
    fn of_many_renewals_in_one_session_the_last_two_are_good() {
        let mut line = Line::begin(certified(1, 1_000));
        line.follow(&A, certified(2, 1_060));
        line.follow(&B, certified(3, 1_120));
        let judged = [A, B, C].map(|serial| line.judge(&serial, 1_121).is_ok());
        assert_eq!(judged, [false, true, true]);
        // The answer got lost, the relay asks again: the one it never saw is void.
        line.follow(&B, certified(4, 1_121));
        assert_eq!(line.judge(&C, 1_122), Err(Worthless::Superseded));
    }

    #[test]
    fn an_expired_one_opens_nothing_but_can_be_renewed_for_a_week() {
        let line = Line::begin(certified(1, 1_000));
        let week = CERTIFICATE_GRACE.as_secs();
        assert_eq!(line.judge(&A, 1_100), Ok(()));
        assert_eq!(line.judge(&A, 1_101), Err(Worthless::Expired));
        assert_eq!(line.judge_renewal(&A, 1_100 + week), Ok(()));
        assert_eq!(line.judge_renewal(&A, 1_101 + week), Err(Worthless::Expired));
    }

    #[test]
    fn a_store_from_a_backup_learns_what_was_issued_since() {
        let mut line = Line::begin(certified(1, 1_000));
        assert!(!line.learn(&certified(1, 1_000)) && !line.learn(&certified(9, 999)));
        assert!(line.learn(&certified(2, 1_060)));
        assert_eq!(line.judge(&B, 1_061), Ok(()));
        assert_eq!(line.judge(&A, 1_061), Err(Worthless::Superseded));
        assert!(!line.learn(&certified(1, 1_000)), "what it followed does not come back");
        line.revoke(1_070);
        assert!(!line.learn(&certified(2, 1_060)) && !line.learn(&certified(3, 1_069)), "revoked is revoked");
        assert!(line.learn(&certified(3, 1_070)), "it joined anew after the backup was made");
        assert_eq!(line.rule(), CertificateRule { from_unix_s: 1_070, revoked: false });
    }

    #[test]
    fn certificates_of_one_second_are_told_apart() {
        let mut line = Line::begin(certified(1, 1_000));
        line.revoke(1_000);
        assert_eq!(line.rule(), CertificateRule { from_unix_s: 1_001, revoked: true });
        assert_eq!(line.judge(&A, 1_000), Err(Worthless::Revoked));
        let issued = line.next_issue_unix_s(1_000);
        let line = Line::begin(certified(2, issued));
        assert_eq!(line.rule(), CertificateRule { from_unix_s: 1_001, revoked: false });
        assert!(line.next_issue_unix_s(1_000) > issued);
    }
}
