//! The store of a controller that is alone: one redb file.

use super::row::{Change, Rows, Table};
use super::{bytes_of, node_of, number_of};
use crate::tokens::hex;
use anyhow::Context as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};
use std::path::Path;

type Bytes = &'static [u8];

/// The file.
pub(crate) struct FileStore {
    database: Database,
}

impl FileStore {
    /// Opens the file, or makes it, with all its tables.
    pub(crate) fn open(file: &Path) -> anyhow::Result<FileStore> {
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
        let store = FileStore { database };
        store.write(|transaction| {
            for table in Table::ALL {
                match table {
                    Table::Numbers => drop(transaction.open_table(numbers())?),
                    Table::Nodes => drop(transaction.open_table(nodes())?),
                    Table::Secrets | Table::Lines | Table::TokenKeys | Table::Policies => {
                        drop(transaction.open_table(named(table))?)
                    }
                    Table::JoinTokens | Table::SpentTokens | Table::Certificates | Table::ApiTokens => {
                        drop(transaction.open_table(hashed(table))?);
                    }
                }
            }
            Ok(())
        })?;
        Ok(store)
    }

    /// Everything in it.
    pub(crate) fn rows(&self) -> anyhow::Result<Rows> {
        let transaction = self.database.begin_read().context("cannot read the store")?;
        let mut rows = Rows::default();
        for table in Table::ALL {
            match table {
                Table::Numbers => {
                    for row in transaction.open_table(numbers())?.iter()? {
                        let (key, value) = row?;
                        rows.insert(table, key.value().to_owned(), value.value().to_string().into_bytes());
                    }
                }
                Table::Nodes => {
                    for row in transaction.open_table(nodes())?.iter()? {
                        let (key, value) = row?;
                        rows.insert(table, super::node_key(key.value()), value.value().to_vec());
                    }
                }
                Table::Secrets | Table::Lines | Table::TokenKeys | Table::Policies => {
                    for row in transaction.open_table(named(table))?.iter()? {
                        let (key, value) = row?;
                        rows.insert(table, key.value().to_owned(), value.value().to_vec());
                    }
                }
                Table::JoinTokens | Table::SpentTokens | Table::Certificates | Table::ApiTokens => {
                    for row in transaction.open_table(hashed(table))?.iter()? {
                        let (key, value) = row?;
                        rows.insert(table, hex(key.value()), value.value().to_vec());
                    }
                }
            }
        }
        Ok(rows)
    }

    /// Makes changes durable, all of them or none.
    pub(crate) fn commit(&self, changes: &[Change]) -> anyhow::Result<()> {
        self.write(|transaction| changes.iter().try_for_each(|change| one(transaction, change)))
    }

    fn write(&self, change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> anyhow::Result<()> {
        let outcome = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            change(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        outcome().context("cannot write the store; is its disk full or read-only?")
    }
}

fn one(transaction: &WriteTransaction, change: &Change) -> Result<(), redb::Error> {
    let Change { table, key, value } = change;
    let value = value.as_deref();
    match *table {
        Table::Numbers => {
            let mut table = transaction.open_table(numbers())?;
            match value {
                Some(value) => table.insert(key.as_str(), number_of(value).expect("numbers are digits"))?,
                None => table.remove(key.as_str())?,
            };
        }
        Table::Nodes => {
            let mut table = transaction.open_table(nodes())?;
            let node = node_of(key).expect("nodes are kept by index");
            match value {
                Some(value) => table.insert(node, value)?,
                None => table.remove(node)?,
            };
        }
        of @ (Table::Secrets | Table::Lines | Table::TokenKeys | Table::Policies) => {
            let mut table = transaction.open_table(named(of))?;
            match value {
                Some(value) => table.insert(key.as_str(), value)?,
                None => table.remove(key.as_str())?,
            };
        }
        of @ (Table::JoinTokens | Table::SpentTokens | Table::Certificates | Table::ApiTokens) => {
            let mut table = transaction.open_table(hashed(of))?;
            let key = bytes_of(key).expect("hashes are kept in hexadecimal");
            match value {
                Some(value) => table.insert(key.as_slice(), value)?,
                None => table.remove(key.as_slice())?,
            };
        }
    }
    Ok(())
}

const fn numbers() -> TableDefinition<'static, &'static str, u64> {
    TableDefinition::new(Table::Numbers.name())
}

const fn nodes() -> TableDefinition<'static, u16, Bytes> {
    TableDefinition::new(Table::Nodes.name())
}

const fn named(table: Table) -> TableDefinition<'static, &'static str, Bytes> {
    TableDefinition::new(table.name())
}

const fn hashed(table: Table) -> TableDefinition<'static, Bytes, Bytes> {
    TableDefinition::new(table.name())
}
