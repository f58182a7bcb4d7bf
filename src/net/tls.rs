//! TLS settings from files: our certificate towards clients, our demands on the certificates of servers (libpq's
//! `sslmode`). Knows no sockets.

use crate::config::{ListenerTls, Negotiation, ServerTls, TlsMode};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What both sides call this protocol inside TLS; a client that speaks TLS from the first byte must.
pub const ALPN: &[u8] = b"postgresql";

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read the certificate file {path}: {source}", path = .path.display())]
    Certificate {
        path: PathBuf,
        source: rustls::pki_types::pem::Error,
    },
    #[error("the certificate file {path} holds no certificate", path = .0.display())]
    NoCertificate(PathBuf),
    #[error("cannot read the key file {path}: {source}", path = .path.display())]
    Key {
        path: PathBuf,
        source: rustls::pki_types::pem::Error,
    },
    #[error("certificate {certificate} and key {key}: {source}", certificate = .certificate.display(), key = .key.display())]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
    #[error("root certificate {path}: {reason}", path = .path.display())]
    Root { path: PathBuf, reason: String },
    #[error("sslmode {0} needs a root certificate to check servers against")]
    RootMissing(&'static str),
    #[error("TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// What clients are shown. Reads the files now; a reload reads them again.
pub fn listener_tls(settings: &ListenerTls) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&settings.certificate)?;
    let key = key(&settings.key)?;
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    // a client without a certificate may still show something else; one with a wrong certificate may not
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let bad = |error: rustls::server::VerifierBuilderError| TlsError::Root {
                path: path.clone(),
                reason: error.to_string(),
            };
            let roots = Arc::new(store(path, &certificates(path)?)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .allow_unauthenticated()
                .build()
                .map_err(bad)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|source| TlsError::Pair {
            certificate: settings.certificate.clone(),
            key: settings.key.clone(),
            source,
        })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The first certificate of a file: the one that is shown.
pub fn certificate(path: &Path) -> Result<CertificateDer<'static>, TlsError> {
    certificates(path)?
        .into_iter()
        .next()
        .ok_or_else(|| TlsError::NoCertificate(path.to_owned()))
}

/// What we ask of servers; None where TLS is not wanted.
pub fn server_tls(settings: &ServerTls) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    // libpq's rule: a root certificate that is given is used, so `require` then checks as `verify-ca` does
    let verifier: Arc<dyn ServerCertVerifier> = match (&settings.mode, &settings.root_certificate) {
        (TlsMode::Disable, _) => return Ok(None),
        (TlsMode::Prefer, _) | (TlsMode::Require, None) => Arc::new(Anyone(provider())),
        (TlsMode::Require | TlsMode::VerifyCa, Some(root)) => {
            Arc::new(Rooted::new(root, Names::Any)?)
        }
        (TlsMode::VerifyFull, Some(root)) => Arc::new(Rooted::new(root, Names::Checked)?),
        (TlsMode::VerifyCa, None) => return Err(TlsError::RootMissing("verify-ca")),
        (TlsMode::VerifyFull, None) => return Err(TlsError::RootMissing("verify-full")),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &settings.own_certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, own_key)) => builder
            .with_client_auth_cert(certificates(certificate)?, key(own_key)?)
            .map_err(|source| TlsError::Pair {
                certificate: certificate.clone(),
                key: own_key.clone(),
                source,
            })?,
    };
    if settings.negotiation == Negotiation::Direct {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(Some(Arc::new(config)))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::Key {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Certificate {
        path: path.to_owned(),
        source,
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect();
    let chain = chain.map_err(failed)?;
    if chain.is_empty() {
        Err(TlsError::NoCertificate(path.to_owned()))
    } else {
        Ok(chain)
    }
}

fn store(path: &Path, roots: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        let added = store.add(root.clone());
        added.map_err(|error| TlsError::Root {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    }
    Ok(store)
}

/// `prefer` and plain `require`: encrypted, to whoever answers. The handshake's signature is still checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Names {
    /// `verify-ca`
    Any,
    /// `verify-full`
    Checked,
}

/// A certificate that the root file vouches for.
#[derive(Debug)]
struct Rooted {
    chain: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
    names: Names,
}

impl Rooted {
    fn new(path: &Path, names: Names) -> Result<Self, TlsError> {
        let bad = |reason: String| TlsError::Root {
            path: path.to_owned(),
            reason,
        };
        let roots = certificates(path)?;
        let store = Arc::new(store(path, &roots)?);
        let chain = WebPkiServerVerifier::builder_with_provider(store, provider())
            .build()
            .map_err(|error| bad(error.to_string()))?;
        Ok(Self {
            chain,
            roots,
            names,
        })
    }

    /// A server's own self-made certificate used as the root file, as PostgreSQL's manual makes it (`req -x509`), is a
    /// CA certificate, which webpki takes from nobody at the end of a chain. libpq does, and so do we when it is the very
    /// one in the file. webpki has looked at its validity before it says this.
    fn is_own_root(&self, error: &rustls::Error, certificate: &CertificateDer<'_>) -> bool {
        let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
            return false;
        };
        matches!(
            other.0.downcast_ref(),
            Some(webpki::Error::CaUsedAsEndEntity)
        ) && self.roots.contains(certificate)
    }
}

impl ServerCertVerifier for Rooted {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let checked = self
            .chain
            .verify_server_cert(certificate, intermediates, name, ocsp, now);
        let any_name = self.names == Names::Any;
        match checked {
            // the name is looked at last: the chain is good
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if any_name => Ok(ServerCertVerified::assertion()),
            Err(error) if self.is_own_root(&error, certificate) => {
                if !any_name {
                    rustls::client::verify_server_name(
                        &ParsedCertificate::try_from(certificate)?,
                        name,
                    )?;
                }
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
