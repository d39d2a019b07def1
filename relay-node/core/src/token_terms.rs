//! The links of SFUs end with what they stand on: when the token expires, and when the key that signed it is removed.
//!
//! The process around the core checks tokens, once, when an SFU dials. It may do so with keys of a moment ago, so the core
//! looks at the key again when the link begins: it hears of every change of keys first.

use crate::relay::{Relay, Side, Timer};
use crate::{ClientRights, LinkId, Output};
use wire_format::Timestamp;
use wire_format::control::TokenKey;

pub(crate) const KEY_REMOVED: &str =
    "the key that signed the token was removed: link again with a token of a present key";
const NO_KEYS: &str = "this relay takes no tokens any more: link to another";
const EXPIRED: &str = "the token has expired: link again with a new one";

impl Relay {
    /// Whether the key that signed a client's token is still good for its namespace. Before the controller told any
    /// keys, nothing is held against one.
    pub(crate) fn token_stands(&self, rights: &ClientRights) -> bool {
        match (&rights.token, &self.token_keys) {
            (Some(terms), Some(keys)) => keys.iter().any(|key| {
                (&key.id, key.public_key) == (&terms.key.id, terms.key.public_key)
                    && key.namespace.as_ref().is_none_or(|only| *only == rights.namespace)
            }),
            (None, _) | (_, None) => true,
        }
    }

    /// These keys are good, and no others: ends the links that stand on others.
    pub(crate) fn set_token_keys(&mut self, now: Timestamp, keys: Vec<TokenKey>) {
        let reason = if keys.is_empty() { NO_KEYS } else { KEY_REMOVED };
        self.token_keys = Some(keys);
        let fallen: Vec<LinkId> = self
            .links
            .iter()
            .flatten()
            .filter(|entry| match &entry.side {
                Side::Client(client) => !self.token_stands(client.rights()),
                Side::Relay { node: _ } => false,
            })
            .map(|entry| entry.link.id)
            .collect();
        for link in fallen {
            self.counters.links_key_removed += 1;
            self.end_client(now, link, reason);
        }
    }

    /// Sets when the link of a client that has just come ends.
    pub(crate) fn time_token(&mut self, now: Timestamp, link: LinkId) {
        let Some(Side::Client(client)) = self.link_mut(link).map(|entry| &entry.side) else { return };
        if let Some(terms) = &client.rights().token {
            let ends = now + terms.valid_for;
            self.timers.set(Timer::Token(link), ends);
        }
    }

    /// The token of a client's link has expired.
    pub(crate) fn token_over(&mut self, now: Timestamp, link: LinkId) {
        self.counters.links_token_expired += 1;
        self.end_client(now, link, EXPIRED);
    }

    fn end_client(&mut self, now: Timestamp, link: LinkId, reason: &'static str) {
        self.output(Output::Close { link, reason });
        self.forget_link(now, link);
    }
}
