//! What a relay keeps across restarts: its key, its certificate, the overlay's CA certificate, and its node index. All of
//! it lies in the state directory:
//!
//! | file | what |
//! | --- | --- |
//! | `key.pem` | private key, made here, readable by its owner only, never sent anywhere |
//! | `key.next.pem` | the key of a renewal under way; takes the place of `key.pem` once its certificate is written |
//! | `certificate.pem` | the relay's certificate, then the CA's; written last: where it is, the join is complete |
//! | `relay.toml` | name, node index, region and controllers, as the join gave them |

use crate::clock;
use crate::error::RelayError;
use control_proto::{CERTIFICATE_BACKDATING, CERTIFICATE_GRACE};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use wire_format::NodeIndex;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Who this relay is to everyone else.
pub(crate) struct Identity {
    /// The relay's certificate.
    pub(crate) certificate: CertificateDer<'static>,
    /// The CA that signed it, which signs everyone's in this overlay.
    pub(crate) ca: CertificateDer<'static>,
    /// What the certificate says, as far as it matters here.
    pub(crate) facts: Facts,
    /// Private key of the certificate.
    pub(crate) key: PrivateKeyDer<'static>,
    /// What the join told besides.
    pub(crate) membership: Membership,
}

/// Number and life of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    /// Serial number.
    pub(crate) serial: Vec<u8>,
    /// When it was issued, by the controller's clock, seconds since 1970.
    pub(crate) issued_unix_s: u64,
    /// When it ends.
    pub(crate) expires_unix_s: u64,
}

impl Facts {
    /// `None` if it is no certificate.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Facts> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let begins_unix_s = u64::try_from(parsed.validity().not_before.timestamp()).ok()?;
        Some(Facts {
            serial: parsed.raw_serial().to_vec(),
            issued_unix_s: begins_unix_s + CERTIFICATE_BACKDATING.as_secs(),
            expires_unix_s: u64::try_from(parsed.validity().not_after.timestamp()).ok()?,
        })
    }
}

/// What a join gives a relay besides its certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Membership {
    /// Unique name, the one in the certificate.
    pub(crate) name: String,
    /// Index in the overlay.
    pub(crate) node: NodeIndex,
    /// Region named in the join token.
    pub(crate) region: Option<String>,
    /// Controllers named in the join token, `HOST:PORT`.
    pub(crate) controllers: Vec<String>,
}

/// The state directory.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    directory: PathBuf,
}

const KEY: &str = "key.pem";
const NEXT_KEY: &str = "key.next.pem";
const CERTIFICATE: &str = "certificate.pem";
const MEMBERSHIP: &str = "relay.toml";

impl Identity {
    /// The identity as the relay port presents it: SFUs know the CA by its fingerprint only, so it is sent along.
    pub(crate) fn for_port(&self) -> link_io::Identity {
        link_io::Identity {
            chain: vec![self.certificate.clone(), self.ca.clone()],
            key: self.key.clone_key(),
        }
    }
}

impl Store {
    /// A directory that need not be there yet.
    pub(crate) fn new(directory: &Path) -> Store {
        Store { directory: directory.to_owned() }
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The identity of an earlier join, if there was one.
    pub(crate) fn load(&self) -> Result<Option<Identity>, RelayError> {
        let path = self.directory.join(CERTIFICATE);
        let chain = match fs::read(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(unusable(path, source)),
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
        let Ok([certificate, ca]) = chain.as_deref() else {
            return Err(self.broken("certificate.pem does not hold two certificates"));
        };
        let path = self.directory.join(MEMBERSHIP);
        let text = fs::read_to_string(&path).map_err(|source| unusable(path, source))?;
        let membership: Membership =
            toml::from_str(&text).map_err(|error| self.broken(&format!("relay.toml: {error}")))?;
        let key = self.key_of(certificate)?;
        let facts = Facts::of(certificate).ok_or_else(|| self.broken("its certificate does not parse"))?;
        let identity = Identity {
            certificate: certificate.clone(),
            facts,
            ca: ca.clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            membership,
        };
        self.check(&identity, &key)?;
        Ok(Some(identity))
    }

    /// The relay's key; made, with the directory, if there is none yet.
    pub(crate) fn key(&self) -> Result<rcgen::KeyPair, RelayError> {
        if let Some(key) = self.read_key(KEY)? {
            return Ok(key);
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(|source| {
            let advice = "set state_dir to a directory that this user may write to";
            RelayError::File { path: self.directory.clone(), source, advice }
        })?;
        let key = rcgen::KeyPair::generate().map_err(|error| RelayError::Tls(error.to_string()))?;
        self.write(KEY, key.serialize_pem().as_bytes(), 0o600)?;
        Ok(key)
    }

    /// Keeps what a join gave.
    pub(crate) fn save(&self, identity: &Identity) -> Result<(), RelayError> {
        let membership = toml::to_string(&identity.membership).expect("plain values");
        self.write(MEMBERSHIP, membership.as_bytes(), 0o644)?;
        let chain = pem("CERTIFICATE", &identity.certificate) + &pem("CERTIFICATE", &identity.ca);
        self.write(CERTIFICATE, chain.as_bytes(), 0o644)
    }

    /// A key for the next certificate.
    pub(crate) fn next_key(&self) -> Result<rcgen::KeyPair, RelayError> {
        let key = rcgen::KeyPair::generate().map_err(|error| RelayError::Tls(error.to_string()))?;
        self.write(NEXT_KEY, key.serialize_pem().as_bytes(), 0o600)?;
        Ok(key)
    }

    /// Keeps what a renewal gave: the certificate for [`Store::next_key`]. If the host stops in between, the next start
    /// finds the key by its certificate.
    pub(crate) fn replace(&self, identity: &Identity, key: &rcgen::KeyPair) -> Result<(), RelayError> {
        self.check(identity, key)?;
        self.save(identity)?;
        self.adopt_next_key()
    }

    fn adopt_next_key(&self) -> Result<(), RelayError> {
        let path = self.directory.join(KEY);
        let renamed = fs::rename(self.directory.join(NEXT_KEY), &path)
            .and_then(|()| fs::File::open(&self.directory)?.sync_all());
        let advice = "state_dir must be a directory that this user may write to";
        renamed.map_err(|source| RelayError::File { path, source, advice })
    }

    /// The key of a certificate: `key.pem`, or that of a renewal that was cut short.
    fn key_of(&self, certificate: &CertificateDer<'_>) -> Result<rcgen::KeyPair, RelayError> {
        let present = self.read_key(KEY)?;
        let present = present.ok_or_else(|| self.broken("key.pem is gone"))?;
        if belong_together(certificate, &present) {
            return Ok(present);
        }
        match self.read_key(NEXT_KEY)? {
            Some(next) if belong_together(certificate, &next) => {
                self.adopt_next_key()?;
                Ok(next)
            }
            Some(_) | None => Err(self.broken("certificate and key do not belong together")),
        }
    }

    fn read_key(&self, name: &str) -> Result<Option<rcgen::KeyPair>, RelayError> {
        let path = self.directory.join(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(unusable(path, source)),
        };
        let mode = fs::metadata(&path).map_err(|source| unusable(path, source))?.permissions().mode();
        if mode & 0o077 != 0 {
            let problem = format!(
                "{name} has mode {:o}: others can read the private key. If nobody did, chmod 600 it; otherwise remove \
                 the directory and join anew",
                mode & 0o777
            );
            return Err(RelayError::State { path: self.directory.clone(), problem });
        }
        let key = rcgen::KeyPair::from_pem(&text)
            .map_err(|_| self.broken(&format!("{name} holds no private key")))?;
        Ok(Some(key))
    }

    /// The certificate is of this key and this name, from that CA, and valid today, or can be renewed.
    fn check(&self, identity: &Identity, key: &rcgen::KeyPair) -> Result<(), RelayError> {
        let parse = |der| X509Certificate::from_der(der).map(|(_, parsed)| parsed);
        let leaf = parse(&identity.certificate).map_err(|_| self.broken("its certificate does not parse"))?;
        let ca = parse(&identity.ca).map_err(|_| self.broken("its CA certificate does not parse"))?;
        if !belong_together(&identity.certificate, key) {
            return Err(self.broken("certificate and key do not belong together"));
        }
        if leaf.issuer() != ca.subject() {
            return Err(self.broken("the certificate is not from the CA beside it"));
        }
        let names = leaf.subject_alternative_name().ok().flatten();
        let named = names.is_some_and(|names| {
            let name = x509_parser::extensions::GeneralName::DNSName(&identity.membership.name);
            names.value.general_names.contains(&name)
        });
        if !named {
            return Err(self.broken("the certificate is for another name than relay.toml"));
        }
        let grace = CERTIFICATE_GRACE.as_secs();
        if clock::unix_s() > identity.facts.expires_unix_s.saturating_add(grace) {
            let problem = format!(
                "its certificate expired on {}, too long ago to be renewed: remove the directory and join anew with a \
                 token from `relayctl join-token create`",
                leaf.validity().not_after
            );
            return Err(RelayError::State { path: self.directory.clone(), problem });
        }
        Ok(())
    }

    fn broken(&self, what: &str) -> RelayError {
        let problem =
            format!("{what}; restore the directory, or remove it and join anew with a new join token");
        RelayError::State { path: self.directory.clone(), problem }
    }

    /// Whole or not at all, even if the host stops meanwhile.
    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), RelayError> {
        let path = self.directory.join(name);
        let unfinished = self.directory.join(format!("{name}.new"));
        let result = (|| {
            let mut file = fs::OpenOptions::new();
            let mut file = file.write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            fs::File::open(&self.directory)?.sync_all()
        })();
        result.map_err(|source| RelayError::File {
            path,
            source,
            advice: "state_dir must be a directory that this user may write to",
        })
    }
}

fn belong_together(certificate: &CertificateDer<'_>, key: &rcgen::KeyPair) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| *parsed.public_key().subject_public_key.data == *key.public_key_raw())
}

fn unusable(path: PathBuf, source: io::Error) -> RelayError {
    RelayError::File { path, source, advice: "check that this user may read it" }
}

/// RFC 7468: base64 in lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines.collect::<String>())
}
