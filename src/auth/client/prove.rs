//! Who the client is: what it has to show, by the list of who may come from where and by its user, and whether it has
//! shown it. What a proof gives away is kept where servers are to be shown the same.

use super::{AcceptError, Identity, ListenerSecurity, Talk};
use crate::auth::access::{Visitor, described};
use crate::auth::certificate::common_name;
use crate::auth::lookup::Lookup;
use crate::auth::md5::Md5Hash;
use crate::auth::passing::LoginKeys;
use crate::auth::scram::{Exchange, ScramError, Verifier};
use crate::auth::startup::{self, StartupError};
use crate::auth::users::{Demand, Proof, TurnedAway, Users};
use crate::config::Method;
use crate::net::Stream;
use bytes::Bytes;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::startup::Authentication;

type Shown = Option<Box<LoginKeys>>;

impl Talk {
    /// Returns when the client has proven that it is who it says.
    pub(super) async fn prove(
        &mut self,
        identity: &Identity,
        tls: Option<&ListenerSecurity>,
        users: &Users,
    ) -> Result<Shown, AcceptError> {
        let visitor = Visitor {
            address: self.peer.map(|peer| peer.ip()),
            encrypted: tls.is_some(),
            user: &identity.user,
            database: &identity.database,
        };
        let method = users.method(&visitor).map_err(|turned| match turned {
            TurnedAway::NoRule => AcceptError::NoRule(described(&visitor)),
            TurnedAway::Rejected => AcceptError::Rejected(described(&visitor)),
        })?;
        if let Some(lookup) = users.lookup(&identity.user, &identity.database) {
            return Box::pin(self.prove_found(identity, tls, users, method, lookup)).await;
        }
        let demand = users.demand(&identity.user, method);
        let shown = self.show(identity, tls, demand).await?;
        if users.lists(&identity.user) {
            Ok(shown)
        } else {
            // nothing was asked for, or a certificate: there is nobody of this name all the same
            Err(AcceptError::NoRole(identity.user.clone()))
        }
    }

    /// The same for a user that only its database knows.
    async fn prove_found(
        &mut self,
        identity: &Identity,
        tls: Option<&ListenerSecurity>,
        users: &Users,
        method: Option<Method>,
        lookup: &Lookup,
    ) -> Result<Shown, AcceptError> {
        let found = lookup.secret(&identity.user).await;
        let demand =
            users.demand_found(&identity.user, method, found.as_ref(), lookup.iterations());
        let shown = self.show(identity, tls, demand).await;
        if matches!(shown, Err(AcceptError::WrongPassword(_))) {
            lookup.doubt(&identity.user);
        }
        let shown = shown?;
        if found.is_some() {
            Ok(shown)
        } else {
            Err(AcceptError::NoRole(identity.user.clone()))
        }
    }

    async fn show(
        &mut self,
        identity: &Identity,
        tls: Option<&ListenerSecurity>,
        demand: Demand,
    ) -> Result<Shown, AcceptError> {
        let keys = match demand.proof {
            Proof::Nothing => return Ok(None),
            Proof::Scram(verifier) => self.show_scram(&identity.user, tls, verifier).await?,
            Proof::Md5(hash) => self.show_md5(&identity.user, hash).await?,
            Proof::Certificate(names) => {
                self.show_certificate(&identity.user, &names)?;
                return Ok(None);
            }
        };
        Ok(demand.passes_on.then(|| Box::new(keys)))
    }

    async fn show_scram(
        &mut self,
        user: &str,
        tls: Option<&ListenerSecurity>,
        verifier: Verifier,
    ) -> Result<LoginKeys, AcceptError> {
        let binding = tls
            .map(|security| security.binding.clone())
            .unwrap_or_default();
        let wrong = |error| match error {
            ScramError::WrongProof => AcceptError::WrongPassword(user.to_owned()),
            ScramError::Malformed(what) => AcceptError::Scram(what),
        };
        self.put(PgWireBackendMessage::Authentication(Authentication::SASL(
            binding.mechanisms(),
        )))?;
        let first = startup::sasl_initial(self.password_message().await?)?;
        let data = first.data.unwrap_or_default();
        let (exchange, answer) =
            Exchange::begin(&binding, &first.auth_method, &data, verifier).map_err(wrong)?;
        self.put(PgWireBackendMessage::Authentication(
            Authentication::SASLContinue(Bytes::from(answer)),
        ))?;
        let last = startup::sasl_response(self.password_message().await?)?;
        let proven = exchange.finish(&last).map_err(wrong)?;
        self.put(PgWireBackendMessage::Authentication(
            Authentication::SASLFinal(Bytes::from(proven.message)),
        ))?;
        Ok(LoginKeys::Scram(proven.keys))
    }

    async fn show_md5(&mut self, user: &str, hash: Md5Hash) -> Result<LoginKeys, AcceptError> {
        let salt = rand::random::<[u8; 4]>();
        self.put(PgWireBackendMessage::Authentication(
            Authentication::MD5Password(salt.to_vec()),
        ))?;
        let answer = self.password_message().await?.into_password();
        let answer = answer.map_err(|error| StartupError::Malformed(error.to_string()))?;
        if hash.is_answered_by(&answer.password, salt) {
            Ok(LoginKeys::Md5(hash))
        } else {
            Err(AcceptError::WrongPassword(user.to_owned()))
        }
    }

    /// The handshake has proven that the certificate is genuine and the client's own.
    fn show_certificate(&self, user: &str, names: &[String]) -> Result<(), AcceptError> {
        let Stream::ClientTls(tls) = &self.stream else {
            return Err(AcceptError::NoCertificate);
        };
        let shown = tls.get_ref().1.peer_certificates();
        let Some(certificate) = shown.and_then(|chain| chain.first()) else {
            return Err(AcceptError::NoCertificate);
        };
        match common_name(certificate) {
            Some(name) if names.contains(&name) => Ok(()),
            _ => Err(AcceptError::WrongCertificate(user.to_owned())),
        }
    }
}
