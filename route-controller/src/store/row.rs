//! What the store is made of, wherever it lies: rows in tables, and changes of them that are made together.

use std::collections::BTreeMap;

/// What kind of row. Tables have the same names wherever they lie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Table {
    /// Floors and counters, in decimal digits.
    Numbers,
    /// Sealed private keys and what belongs to them.
    Secrets,
    /// Relays, by index: five digits.
    Nodes,
    /// Join tokens that wait, by the hash of their secret, in hexadecimal as all hashes and serial numbers here.
    JoinTokens,
    /// Join tokens used a moment ago, likewise.
    SpentTokens,
    /// Certificates, by serial number.
    Certificates,
    /// Lines of certificates, by name.
    Lines,
    /// Keys of other token services, by id.
    TokenKeys,
    /// Tokens of the admin API, by hash.
    ApiTokens,
    /// What counts as a good route, and from which file it was taken last.
    Policies,
}

impl Table {
    pub(crate) const ALL: [Table; 10] = [
        Table::Numbers,
        Table::Secrets,
        Table::Nodes,
        Table::JoinTokens,
        Table::SpentTokens,
        Table::Certificates,
        Table::Lines,
        Table::TokenKeys,
        Table::ApiTokens,
        Table::Policies,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Table::Numbers => "numbers",
            Table::Secrets => "secrets",
            Table::Nodes => "nodes",
            Table::JoinTokens => "join_tokens",
            Table::SpentTokens => "spent_tokens",
            Table::Certificates => "certificates",
            Table::Lines => "certificate_lines",
            Table::TokenKeys => "token_keys",
            Table::ApiTokens => "api_tokens",
            Table::Policies => "policies",
        }
    }
}

/// Every row of a store.
#[derive(Clone, Default, Debug)]
pub(crate) struct Rows(BTreeMap<(Table, String), Vec<u8>>);

impl Rows {
    /// One row.
    pub(crate) fn get(&self, table: Table, key: &str) -> Option<&[u8]> {
        self.0.get(&(table, key.to_owned())).map(Vec::as_slice)
    }

    /// The rows of a table, by key.
    pub(crate) fn all(&self, table: Table) -> impl Iterator<Item = (&str, &[u8])> {
        let rows = self.0.range((table, String::new())..).take_while(move |((of, _), _)| *of == table);
        rows.map(|((_, key), value)| (key.as_str(), value.as_slice()))
    }

    pub(crate) fn insert(&mut self, table: Table, key: String, value: Vec<u8>) {
        self.0.insert((table, key), value);
    }

    /// Does what was made durable.
    pub(crate) fn change(&mut self, changes: Vec<Change>) {
        for Change { table, key, value } in changes {
            match value {
                Some(value) => self.insert(table, key, value),
                None => {
                    self.0.remove(&(table, key));
                }
            }
        }
    }
}

/// A row that is written, or removed if it has no value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) table: Table,
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
}

impl Change {
    pub(crate) fn put(table: Table, key: impl Into<String>, value: Vec<u8>) -> Change {
        Change { table, key: key.into(), value: Some(value) }
    }

    pub(crate) fn remove(table: Table, key: impl Into<String>) -> Change {
        Change { table, key: key.into(), value: None }
    }
}
