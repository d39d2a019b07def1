//! The overlay's certificate authority.
//!
//! One self-signed root, made when the controller starts for the first time, signs everything: relays' certificates,
//! whose only name is the relay's, and the controller's own. A relay's certificate serves in both directions, for it
//! both dials and is dialled. From a certificate request only the public key is taken; what else the requester wrote
//! there is ignored, so that nobody can ask for a name or a right that the join token does not give.

use crate::clock;
use anyhow::{Context as _, bail};
use control_proto::{CERTIFICATE_BACKDATING, CONTROLLER_TLS_NAME, SERIAL_BYTES, check_relay_name};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData as _, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{ASN1Time, FromDer as _, GeneralName, X509Certificate};

/// How long the root is valid.
const CA_VALIDITY: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How long the controller's own certificate is valid. It is replaced long before, without a restart.
pub(crate) const SERVER_VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);

/// The root: certificate and key.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate just issued to a relay.
pub(crate) struct Issued {
    /// DER.
    pub(crate) certificate: CertificateDer<'static>,
    /// SHA-256 of the public key in it.
    pub(crate) key_sha256: [u8; 32],
    /// Its serial number.
    pub(crate) serial: [u8; SERIAL_BYTES],
}

/// What a certificate of this CA says of a relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RelayCertificate {
    /// Its name.
    pub(crate) name: String,
    /// Serial number.
    pub(crate) serial: Vec<u8>,
    /// When it was issued, seconds since 1970.
    pub(crate) issued_unix_s: u64,
    /// When it ends.
    pub(crate) expires_unix_s: u64,
}

/// A certificate of the controller's own, with its key.
pub(crate) struct ServerIdentity {
    /// The certificate, then the root, so that who knows only the root's hash can check both.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Private key.
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Authority {
    /// Makes a new root. The second value is its private key (PKCS #8), to be stored sealed.
    pub(crate) fn generate() -> anyhow::Result<(Authority, Vec<u8>)> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make the CA's key")?;
        let serial = serial()?;
        let mut params = CertificateParams::default();
        // The serial number tells roots of several overlays apart in tools that show only subjects.
        let tag: String = serial[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name = common_name(&format!("Cascade overlay CA {tag}"));
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = clock::calendar();
        params.not_before = (now - CERTIFICATE_BACKDATING).into();
        params.not_after = (now + CA_VALIDITY).into();
        let certificate = params.self_signed(&key).context("cannot sign the CA's certificate")?;
        let pkcs8 = key.serialize_der();
        Ok((Authority { certificate: certificate.into(), issuer: Issuer::new(params, key) }, pkcs8))
    }

    /// The root as it was stored.
    pub(crate) fn load(certificate: &[u8], pkcs8: &[u8]) -> anyhow::Result<Authority> {
        let certificate = CertificateDer::from(certificate.to_vec());
        let key = KeyPair::try_from(pkcs8).context("the stored CA key is no private key")?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).context("the stored CA certificate is damaged")?;
        Ok(Authority { certificate, issuer })
    }

    /// The root's certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the root's certificate: what joiners and SFUs are told.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        sha256(&self.certificate)
    }

    /// The root's certificate as a file.
    pub(crate) fn pem(&self) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.certificate);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// Issues the certificate of the relay `name` for the key in `csr`, as of `issued_unix_s`.
    pub(crate) fn issue_relay(
        &self,
        name: &str,
        csr: &[u8],
        issued_unix_s: u64,
        lifetime: Duration,
    ) -> anyhow::Result<Issued> {
        check_relay_name(name)?;
        let mut request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
            .context("the certificate request cannot be read or its signature is wrong")?;
        let serial = serial()?;
        let issued = UNIX_EPOCH + Duration::from_secs(issued_unix_s);
        let mut params = leaf(name, &serial, issued, issued + lifetime)?;
        params.subject_alt_names = vec![dns(name)?];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        request.params = params;
        let certificate = request.signed_by(&self.issuer).context("cannot sign the relay's certificate")?;
        let key_sha256 = sha256(request.public_key.der_bytes());
        Ok(Issued { certificate: certificate.into(), key_sha256, serial })
    }

    /// Issues a certificate for the controller itself; `hosts` are names and addresses that it is reached by, beside
    /// [`CONTROLLER_TLS_NAME`].
    pub(crate) fn issue_server(
        &self,
        hosts: &[String],
        validity: Duration,
    ) -> anyhow::Result<ServerIdentity> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")?;
        let serial = serial()?;
        let now = clock::calendar();
        let mut params = leaf(CONTROLLER_TLS_NAME, &serial, now, now + validity)?;
        params.subject_alt_names = vec![dns(CONTROLLER_TLS_NAME)?];
        for host in hosts {
            params.subject_alt_names.push(match host.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => dns(host)?,
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate =
            params.signed_by(&key, &self.issuer).context("cannot sign the controller's certificate")?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(ServerIdentity { chain: vec![certificate.into(), self.certificate.clone()], key })
    }
}

/// What a certificate says that is already known to be of this CA.
pub(crate) fn relay_certificate(certificate: &[u8]) -> anyhow::Result<RelayCertificate> {
    let (_, parsed) = X509Certificate::from_der(certificate).context("not a certificate")?;
    let names = parsed.subject_alternative_name().context("more than one list of names")?;
    let names = names.map_or(&[][..], |extension| extension.value.general_names.as_slice());
    let [GeneralName::DNSName(name)] = names else { bail!("it does not have one name alone") };
    check_relay_name(name)?;
    let seconds = |time: ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    Ok(RelayCertificate {
        name: (*name).to_owned(),
        serial: parsed.raw_serial().to_vec(),
        issued_unix_s: seconds(parsed.validity().not_before) + CERTIFICATE_BACKDATING.as_secs(),
        expires_unix_s: seconds(parsed.validity().not_after),
    })
}

/// SHA-256 of anything.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn leaf(
    name: &str,
    serial: &[u8; SERIAL_BYTES],
    now: SystemTime,
    not_after: SystemTime,
) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - CERTIFICATE_BACKDATING).into();
    params.not_after = not_after.into();
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn dns(name: &str) -> anyhow::Result<SanType> {
    let name = name.to_owned().try_into().with_context(|| format!("{name:?} is no DNS name"))?;
    Ok(SanType::DnsName(name))
}

/// A positive random number (RFC 5280 section 4.1.2.2).
fn serial() -> anyhow::Result<[u8; SERIAL_BYTES]> {
    let mut serial = [0; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut serial).context("the system gives no random numbers")?;
    serial[0] = serial[0] & 0x7F | 0x40;
    Ok(serial)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn request(names: &[&str]) -> anyhow::Result<Vec<u8>> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Ok(CertificateParams::new(names)?.serialize_request(&key)?.der().to_vec())
    }

    #[test]
    fn a_relay_gets_the_name_of_its_token_whatever_it_asks_for() -> anyhow::Result<()> {
        let (authority, _) = Authority::generate()?;
        let csr = request(&[CONTROLLER_TLS_NAME, "sin-1"])?;
        let issued = authority.issue_relay("fra-1", &csr, 1_700_000_000, DAY)?;
        let read = relay_certificate(&issued.certificate)?;
        assert_eq!((read.name.as_str(), read.serial.as_slice()), ("fra-1", issued.serial.as_slice()));
        assert_eq!((read.issued_unix_s, read.expires_unix_s), (1_700_000_000, 1_700_086_400));
        let (_, parsed) = X509Certificate::from_der(&issued.certificate)?;
        assert!(!parsed.is_ca());
        let usage = parsed.extended_key_usage()?.expect("leaves tell their use").value;
        assert!(usage.client_auth && usage.server_auth && !usage.any);
        assert_eq!(parsed.raw_serial(), issued.serial);
        Ok(())
    }

    #[test]
    fn the_controllers_own_certificate_is_no_relays() -> anyhow::Result<()> {
        let (authority, _) = Authority::generate()?;
        let server =
            authority.issue_server(&["127.0.0.1".to_owned(), "controller.example".to_owned()], DAY)?;
        assert!(relay_certificate(&server.chain[0]).is_err());
        assert_eq!(&server.chain[1], authority.certificate());
        let (_, parsed) = X509Certificate::from_der(&server.chain[0])?;
        assert!(!parsed.extended_key_usage()?.expect("leaves tell their use").value.client_auth);
        Ok(())
    }

    #[test]
    fn a_stored_root_signs_as_before() -> anyhow::Result<()> {
        let (authority, pkcs8) = Authority::generate()?;
        let loaded = Authority::load(authority.certificate(), &pkcs8)?;
        assert_eq!(loaded.sha256(), authority.sha256());
        let issued = loaded.issue_relay("fra-1", &request(&[])?, clock::unix_s(), DAY)?;
        let (_, leaf) = X509Certificate::from_der(&issued.certificate)?;
        let (_, root) = X509Certificate::from_der(authority.certificate())?;
        leaf.verify_signature(Some(root.public_key()))?;
        Ok(())
    }

    #[test]
    fn requests_that_prove_nothing_are_refused() -> anyhow::Result<()> {
        let (authority, _) = Authority::generate()?;
        let mut forged = request(&[])?;
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(authority.issue_relay("fra-1", &forged, 0, DAY).is_err());
        assert!(authority.issue_relay("fra-1", b"nonsense", 0, DAY).is_err());
        assert!(authority.issue_relay("FRA", &request(&[])?, 0, DAY).is_err());
        Ok(())
    }
}
