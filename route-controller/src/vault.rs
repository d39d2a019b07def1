//! Private keys at rest: sealed with AES-256-GCM under a key that lives in a file of its own, so that a copy of the
//! store alone gives nothing away.

use anyhow::{Context as _, bail};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;

/// Seals and opens private keys.
pub(crate) struct Vault {
    key: RandomizedNonceKey,
}

impl Vault {
    /// Reads the key file. If there is none, makes one where `create` allows it, readable by its owner only.
    pub(crate) fn open(file: &Path, create: bool) -> anyhow::Result<Vault> {
        let key = match fs::read(file) {
            Ok(key) => Zeroizing::new(key),
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => Vault::create(file)?,
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "cannot read {}, the key under which the store's private keys are encrypted; restore it from \
                         the backup, or name it with `key_encryption_file`",
                        file.display()
                    )
                });
            }
        };
        let mode = fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o077 != 0 {
            tracing::warn!(file = %file.display(), "others can read the key of the store's private keys; chmod 600 it");
        }
        if key.len() != KEY_BYTES {
            bail!("{} has {} bytes, not {KEY_BYTES}: restore it from the backup", file.display(), key.len());
        }
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key).context("AES-256-GCM is not available")?;
        Ok(Vault { key })
    }

    fn create(file: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut key).context("the system gives no random numbers")?;
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file)
            .and_then(|mut file| file.write_all(&key).and_then(|()| file.sync_all()))
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(key)
    }

    /// Encrypts; `name` says what it is and must be told again to open it.
    pub(crate) fn seal(&self, name: &str, plain: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed)
            .context("sealing failed")?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// Decrypts what was sealed under the same name.
    pub(crate) fn open_sealed(&self, name: &str, sealed: &[u8]) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let wrong = || {
            format!(
                "the store's {name} cannot be decrypted: the key file is not the one it was encrypted with; restore \
                 the key file that belongs to this store"
            )
        };
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().with_context(wrong)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self
            .key
            .open_in_place(nonce, Aad::from(name.as_bytes()), &mut plain)
            .map(|plain| plain.len())
            .map_err(|_| anyhow::anyhow!(wrong()))?;
        plain.truncate(length);
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_under_one_name_opens_under_it_alone() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("key");
        let sealed = Vault::open(&file, true)?.seal("ca-key", b"secret")?;
        assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        let again = Vault::open(&file, false)?;
        assert_eq!(again.open_sealed("ca-key", &sealed)?.as_slice(), b"secret");
        assert!(again.open_sealed("token-key", &sealed).is_err());
        assert!(again.open_sealed("ca-key", &sealed[..5]).is_err());
        Ok(())
    }

    #[test]
    fn a_missing_or_foreign_key_file_is_explained() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let missing = Vault::open(&folder.path().join("none"), false).err().expect("no key file");
        assert!(format!("{missing:#}").contains("restore it from the backup"), "{missing:#}");
        let sealed = Vault::open(&folder.path().join("a"), true)?.seal("ca-key", b"secret")?;
        let other = Vault::open(&folder.path().join("b"), true)?;
        let error = other.open_sealed("ca-key", &sealed).expect_err("another key");
        assert!(format!("{error:#}").contains("restore the key file"), "{error:#}");
        Ok(())
    }
}
