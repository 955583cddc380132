//! How the connections to a cluster are secured: Kafka's `security.protocol`, `ssl.…` and `sasl.…`.

use super::jaas;
use super::keys::{Keys, Scope};
use super::notes::Notes;
use super::secrets::Secrets;
use super::text::{Line, quoted};
use crate::import::What;
use crate::import::properties::Property;

/// The kinds of clients that can have settings of their own.
const CLIENTS: [&str; 3] = ["consumer", "producer", "admin"];

/// What stands where a person has to write something.
const FILL_IN: &str = "FILL-IN";

/// The same where capital letters would be refused.
const FILL_IN_REGION: &str = "fill-in";

/// The tables of a cluster about its security; empty where it has none.
pub(super) struct Security {
    pub(super) tls: Vec<Line>,
    pub(super) sasl: Vec<Line>,
}

/// A cluster whose security is read.
struct Reader<'a> {
    alias: &'a str,
    id: &'a str,
    scope: Scope,
    keys: &'a Keys,
    notes: &'a Notes,
    secrets: &'a Secrets,
}

impl Security {
    pub(super) fn read(alias: &str, id: &str, keys: &Keys, notes: &Notes, secrets: &Secrets) -> Self {
        let scope = Scope::Cluster(alias.to_owned());
        let reader = Reader { alias, id, scope, keys, notes, secrets };
        let protocol = reader.get("security.protocol");
        let word = protocol.map_or_else(|| "PLAINTEXT".to_owned(), |protocol| protocol.value.to_ascii_uppercase());
        if let Some(protocol) =
            protocol.filter(|_| !["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&&*word))
        {
            reader.lacks(protocol, "it is no protocol of Kafka", "write the table security of the cluster");
        }
        let tls = reader.tls(word.ends_with("SSL"), &word);
        let sasl = reader.sasl(word.starts_with("SASL_"), &word);
        Self { tls, sasl }
    }
}

impl Reader<'_> {
    /// A setting of all clients of the cluster. One that a client has for itself counts where there is none for all, and is named where it differs.
    fn get(&self, key: &str) -> Option<&Property> {
        let of_client = |client| self.keys.of_cluster_alone(self.alias, &format!("{client}.{key}"));
        let of_clients: Vec<&Property> = CLIENTS.iter().filter_map(of_client).collect();
        let found = self.keys.of_cluster(self.alias, key).or(of_clients.first().copied())?;
        for own in of_clients.into_iter().filter(|own| own.value != found.value) {
            let why = format!(
                "a cluster has one security for all that is done with it, and {} says something else",
                found.key
            );
            self.notes.about(
                &self.scope,
                own,
                What::NotCarriedOver,
                &why,
                "see which user may do everything, or declare the cluster twice",
            );
        }
        Some(found)
    }

    /// It cannot be carried over, and without it no connection will come about.
    fn lacks(&self, property: &Property, why: &str, remedy: &str) {
        self.notes.about(
            &self.scope,
            property,
            What::NotCarriedOver,
            why,
            &format!("{remedy}, then set autostart = true"),
        );
        self.notes.hold(&self.scope);
    }

    fn to_do(&self, property: &Property, why: &str, remedy: &str) {
        self.notes.about(&self.scope, property, What::ToDo, why, remedy);
    }

    fn path(&self, what: &str) -> String {
        format!("tls/{}-{what}.pem", self.id)
    }

    fn tls(&self, enabled: bool, protocol: &str) -> Vec<Line> {
        let names = ["truststore.type", "truststore.location", "truststore.password", "truststore.certificates"];
        let trust = names.map(|name| self.get(&format!("ssl.{name}")));
        let names =
            ["keystore.type", "keystore.location", "keystore.password", "keystore.key", "keystore.certificate.chain"];
        let own = names.map(|name| self.get(&format!("ssl.{name}")));
        let key_password = self.get("ssl.key.password");
        let identification = self.get("ssl.endpoint.identification.algorithm");
        if !enabled {
            let unused = trust.into_iter().chain(own).chain([key_password, identification]).flatten();
            let why = format!("it means nothing without TLS, and security.protocol is {protocol}");
            unused.for_each(|property| self.notes.about(&self.scope, property, What::NotCarriedOver, &why, ""));
            return Vec::new();
        }
        let mut lines = vec![Line::Key("enable_tls", "true".to_owned())];
        lines.extend(self.trust(trust));
        lines.extend(self.identity(own, key_password));
        if let Some(identification) = identification.filter(|property| !property.value.eq_ignore_ascii_case("https")) {
            let remedy = "set tls_server_name to the name that the certificates of all brokers have";
            self.notes.about(
                &self.scope,
                identification,
                What::Differs,
                "whom a certificate belongs to is always looked at",
                remedy,
            );
        }
        lines
    }

    /// Whom we trust.
    fn trust(&self, [kind, location, password, inline]: [Option<&Property>; 4]) -> Option<Line> {
        let file = if let Some(inline) = inline {
            let file = self.path("ca");
            self.to_do(inline, "certificates stand in the file itself", &format!("put them into {file}"));
            file
        } else {
            let location = location?;
            if is_pem(kind) {
                self.pem_file(location)
            } else {
                let file = self.path("ca");
                let why = format!("{} is a store of Java's, and files of certificates are PEM here", location.value);
                self.to_do(
                    location,
                    &why,
                    &format!("make {file}: `{}`", certificates_of(kind, &location.value, "-nokeys", &file)),
                );
                file
            }
        };
        self.needs_no_password(password);
        Some(Line::Key("tls_ca_file", quoted(&file)))
    }

    /// Who we are.
    fn identity(
        &self,
        [kind, location, password, key, chain]: [Option<&Property>; 5],
        key_password: Option<&Property>,
    ) -> Vec<Line> {
        let [mut cert_file, mut key_file] = [self.path("cert"), self.path("key")];
        let given = location.or(key).or(chain);
        let Some(given) = given else { return Vec::new() };
        if let (None, Some(inline)) = (location, key.or(chain)) {
            let remedy =
                format!("put the certificates into {cert_file} and the key, decrypted, into {key_file} (mode 0600)");
            self.to_do(inline, "certificate and key stand in the file itself", &remedy);
            // The rest is said with it.
            key_password.into_iter().for_each(|password| self.needs_no_password(Some(password)));
        } else if is_pem(kind) {
            cert_file = self.pem_file(given);
            if let Some(password) = key_password {
                let remedy = format!(
                    "make {key_file} (mode 0600): `openssl pkey -in {cert_file} -out {key_file}`; or name {cert_file} there and write tls_key_password"
                );
                self.to_do(password, "the password of a key is not carried over", &remedy);
            } else {
                key_file.clone_from(&cert_file);
            }
        } else {
            let why = format!("{} is a store of Java's, and files of certificates and keys are PEM here", given.value);
            let remedy = format!(
                "make {cert_file}: `{}`, and {key_file} (mode 0600): `{}`",
                certificates_of(kind, &given.value, "-nokeys", &cert_file),
                certificates_of(kind, &given.value, "-nocerts -nodes", &key_file)
            );
            self.to_do(given, &why, &remedy);
            self.needs_no_password(key_password);
        }
        self.needs_no_password(password);
        [("tls_cert_file", cert_file), ("tls_key_file", key_file)]
            .map(|(key, file)| Line::Key(key, quoted(&file)))
            .into()
    }

    fn pem_file(&self, location: &Property) -> String {
        if !location.value.starts_with('/') {
            let why =
                "the path was relative to where MirrorMaker 2 was started, and is relative to the configuration now";
            self.to_do(location, why, "mend the path");
        }
        location.value.clone()
    }

    fn needs_no_password(&self, password: Option<&Property>) {
        if let Some(password) = password {
            let why = "files of certificates and keys have no password here";
            self.notes.about(&self.scope, password, What::NotCarriedOver, why, "you need it to make the files");
        }
    }

    fn sasl(&self, enabled: bool, protocol: &str) -> Vec<Line> {
        let (mechanism, jaas) = (self.get("sasl.mechanism"), self.get("sasl.jaas.config"));
        if !enabled {
            let why = format!("it means nothing without SASL, and security.protocol is {protocol}");
            for property in [mechanism, jaas].into_iter().flatten() {
                self.notes.about(&self.scope, property, What::NotCarriedOver, &why, "");
            }
            return Vec::new();
        }
        let word = mechanism.map_or("GSSAPI", |mechanism| &mechanism.value);
        let line = Line::Key("mechanism", quoted(word));
        match word {
            "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => std::iter::once(line).chain(self.login(jaas)).collect(),
            "OAUTHBEARER" => vec![line, self.token(jaas.or(mechanism))],
            "AWS_MSK_IAM" => {
                if let Some(mechanism) = mechanism {
                    let why = "Tidegate signs tokens for a region, and MirrorMaker 2 takes it from the brokers' names";
                    self.lacks(mechanism, why, "write region under security.sasl of the cluster");
                }
                vec![line, Line::Key("region", quoted(FILL_IN_REGION))]
            }
            _ => {
                let why = format!(
                    "Tidegate does not have the mechanism {word}: it has PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER and AWS_MSK_IAM"
                );
                let remedy = "write the table security.sasl of the cluster for another mechanism";
                match mechanism.or(jaas) {
                    Some(property) => self.lacks(property, &why, remedy),
                    None => {
                        let key = format!("{}.sasl.mechanism", self.alias);
                        self.notes.about_default(&self.scope, &key, What::NotCarriedOver, &why, remedy);
                        self.notes.hold(&self.scope);
                    }
                }
                Vec::new()
            }
        }
    }

    fn login(&self, jaas: Option<&Property>) -> Vec<Line> {
        let file = format!("secrets/{}-password", self.id);
        let options = jaas.and_then(|jaas| jaas::options(&jaas.value)).unwrap_or_default();
        let username = options.get("username").filter(|name| !name.starts_with("${")).cloned();
        let password = match (jaas, options.get("password")) {
            (Some(jaas), Some(password)) => self.secrets.place(&self.scope, jaas, password, &file, self.notes),
            _ => format!("${{file:{file}}}"),
        };
        let is_whole = username.is_some() && options.contains_key("password");
        if !is_whole {
            let why = "sasl.jaas.config does not say user and password in a way that can be read here";
            let remedy =
                format!("write username under security.sasl of the cluster, and put the password into the file {file}");
            match jaas {
                Some(jaas) => self.lacks(jaas, why, &remedy),
                None => {
                    let key = format!("{}.sasl.jaas.config", self.alias);
                    self.notes.about_default(&self.scope, &key, What::ToDo, why, &remedy);
                    self.notes.hold(&self.scope);
                }
            }
        }
        let username = username.unwrap_or_else(|| FILL_IN.to_owned());
        vec![Line::Key("username", quoted(&username)), Line::Key("password", quoted(&password))]
    }

    fn token(&self, said: Option<&Property>) -> Line {
        let file = format!("secrets/{}-token", self.id);
        if let Some(said) = said {
            let why =
                "where tokens come from is not carried over: as it stands, one is read from a file for each connection";
            let remedy = format!(
                "have something write a token into {file} before the one there ends, or write token_endpoint, client_id and client_secret in place of token"
            );
            self.to_do(said, why, &remedy);
        }
        Line::Key("token", quoted(&format!("${{file:{file}}}")))
    }
}

fn is_pem(kind: Option<&Property>) -> bool {
    kind.is_some_and(|kind| kind.value.eq_ignore_ascii_case("PEM"))
}

/// The command that takes certificates or keys out of a store of Java's. One of its own format becomes PKCS #12 first.
fn certificates_of(kind: Option<&Property>, store: &str, what: &str, file: &str) -> String {
    let is_pkcs12 = kind.is_some_and(|kind| kind.value.eq_ignore_ascii_case("PKCS12"))
        || [".p12", ".pfx"].iter().any(|end| store.ends_with(end));
    if is_pkcs12 {
        return format!("openssl pkcs12 -in {store} {what} -out {file}");
    }
    let between = format!("{file}.p12");
    format!(
        "keytool -importkeystore -srckeystore {store} -destkeystore {between} -deststoretype PKCS12 && \
         openssl pkcs12 -in {between} {what} -out {file}"
    )
}
