//! The keys of an identity of AWS: those of the configuration, or those that the surroundings of
//! the daemon give to every program.
//!
//! The surroundings are asked in the order of AWS's own programs: the environment, a web identity
//! (EKS), the shared credentials file, the container (ECS, EKS), the machine (EC2). What is there
//! and fails is an error, and nothing behind it is asked.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use ureq::http::Uri;

use super::super::http::{agent, answered, form_encoded};
use crate::config::{AwsIdentity, AwsSource};
use crate::files::given;
use crate::model::time::parse_rfc3339;

/// The most bytes of a file of keys or of a token.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Where containers and machines ask for their keys: addresses of the link, which no router passes
/// on.
const CONTAINER: &str = "http://169.254.170.2";
const MACHINE: &str = "http://169.254.169.254";
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// The keys of an identity.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) access_key_id: SecretString,
    pub(super) secret_access_key: SecretString,
    pub(super) session_token: Option<SecretString>,
    /// When they end, in milliseconds.
    pub(super) ends_ms: Option<i64>,
}

/// Looks for a variable of the environment.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The keys of `identity`. `written`: those of the configuration, if it has any.
pub(super) fn find(
    identity: &AwsIdentity,
    written: &SecretString,
    variables: Variables<'_>,
    timeout: Duration,
) -> Result<Keys, String> {
    match &identity.source {
        AwsSource::Keys(_) => {
            AwsIdentity::split(written).map(of_parts).ok_or_else(|| "the keys are not whole".to_owned())
        }
        AwsSource::Profile(name) => {
            let path = shared_file(variables).ok_or("neither AWS_SHARED_CREDENTIALS_FILE nor HOME is set")?;
            of_profile(&path, name)?
                .ok_or_else(|| format!("{}: there is no profile {name:?} with keys", path.display()))
        }
        AwsSource::Surroundings => of_surroundings(&identity.region, variables, timeout),
    }
}

fn of_surroundings(region: &str, variables: Variables<'_>, timeout: Duration) -> Result<Keys, String> {
    let secret = |name: &str| variables(name).filter(|text| !text.is_empty()).map(SecretString::from);
    if let (Some(id), Some(key)) = (secret("AWS_ACCESS_KEY_ID"), secret("AWS_SECRET_ACCESS_KEY")) {
        return Ok(of_parts((id, key, secret("AWS_SESSION_TOKEN"))));
    }
    if let (Some(file), Some(role)) = (variables("AWS_WEB_IDENTITY_TOKEN_FILE"), variables("AWS_ROLE_ARN")) {
        return of_web_identity(Path::new(&file), &role, region, variables, timeout)
            .map_err(|error| format!("the web identity: {error}"));
    }
    if let Some(path) = shared_file(variables).filter(|path| path.exists()) {
        let profile = variables("AWS_PROFILE");
        let found = of_profile(&path, profile.as_deref().unwrap_or("default"))?;
        match (found, profile) {
            (Some(keys), _) => return Ok(keys),
            (None, Some(name)) => return Err(format!("{}: there is no profile {name:?} with keys", path.display())),
            (None, None) => {}
        }
    }
    let relative = variables("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER}{path}"));
    if let Some(address) = relative.or_else(|| variables("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
        return of_container(&address, variables, timeout).map_err(|error| format!("the container: {error}"));
    }
    if variables("AWS_EC2_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return Err("the surroundings of the daemon have no keys of AWS".to_owned());
    }
    let address = variables("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| MACHINE.to_owned());
    let no_keys = |error| format!("the surroundings of the daemon have no keys of AWS; the machine: {error}");
    of_machine(address.trim_end_matches('/'), timeout).map_err(no_keys)
}

fn of_parts(
    (access_key_id, secret_access_key, session_token): (SecretString, SecretString, Option<SecretString>),
) -> Keys {
    Keys { access_key_id, secret_access_key, session_token, ends_ms: None }
}

fn shared_file(variables: Variables<'_>) -> Option<PathBuf> {
    let named = variables("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    named.or_else(|| Some(Path::new(&variables("HOME")?).join(".aws/credentials")))
}

fn read(path: &Path) -> Result<String, String> {
    let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let bytes = given::read(path, FILE_BYTES_MAX).map_err(|error| wrong(&error))?;
    String::from_utf8(bytes).map_err(|_| wrong(&"it is not UTF-8"))
}

/// The keys of a profile of the shared credentials file; `None`: it has no keys there.
fn of_profile(path: &Path, name: &str) -> Result<Option<Keys>, String> {
    let text = read(path)?;
    let section = |line: &str| Some(line.trim().strip_prefix('[')?.strip_suffix(']')?.trim().to_owned());
    let within = text.lines().skip_while(|line| section(line).as_deref() != Some(name)).skip(1);
    let pairs: Vec<_> =
        within.take_while(|line| section(line).is_none()).filter_map(|line| line.split_once('=')).collect();
    let value = |key: &str| {
        let found = pairs.iter().find(|(name, _)| name.trim().eq_ignore_ascii_case(key));
        found.map(|(_, value)| SecretString::from(value.trim())).filter(|value| !value.expose_secret().is_empty())
    };
    let keys = value("aws_access_key_id").zip(value("aws_secret_access_key"));
    Ok(keys.map(|(id, key)| of_parts((id, key, value("aws_session_token")))))
}

/// The role that the token of a file stands for (STS, AssumeRoleWithWebIdentity).
fn of_web_identity(
    file: &Path,
    role: &str,
    region: &str,
    variables: Variables<'_>,
    timeout: Duration,
) -> Result<Keys, String> {
    let token = SecretString::from(read(file)?.trim());
    let session = variables("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "tidegate".to_owned());
    let form = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", role),
        ("RoleSessionName", &session),
        ("WebIdentityToken", token.expose_secret()),
    ];
    let body = form.map(|(name, value)| format!("{name}={}", form_encoded(value))).join("&");
    let address = variables("AWS_ENDPOINT_URL_STS").unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com/"));
    let agent = agent(None, timeout)?;
    let request = agent.post(safe(&address)?).header("content-type", "application/x-www-form-urlencoded");
    let answer = answered(request.send(body.as_bytes()))?;
    if !answer.status.is_success() {
        return Err(format!("it answers {}", answer.status.as_u16()));
    }
    let text = String::from_utf8_lossy(&answer.bytes);
    // These values need no escapes in XML.
    let value = |name: &str| {
        let (_, behind) = text.split_once(&format!("<{name}>"))?;
        Some(behind.split_once(&format!("</{name}>"))?.0.trim())
    };
    let parts = (value("AccessKeyId"), value("SecretAccessKey"), value("SessionToken"));
    let (Some(id), Some(key), Some(token)) = parts else { return Err("its answer has no keys".to_owned()) };
    let ends_ms = value("Expiration").and_then(parse_rfc3339);
    Ok(Keys { ends_ms, ..of_parts((id.into(), key.into(), Some(token.into()))) })
}

/// What containers and machines are answered.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

fn keys_of(answer: &super::super::http::Answer) -> Result<Keys, String> {
    if !answer.status.is_success() {
        return Err(format!("it answers {}", answer.status.as_u16()));
    }
    let found: Answer = serde_json::from_slice(&answer.bytes).map_err(|_quotes| "its answer has no keys".to_owned())?;
    let ends_ms = found.expiration.as_deref().and_then(parse_rfc3339);
    let parts = (found.access_key_id.into(), found.secret_access_key.into(), found.token.map(SecretString::from));
    Ok(Keys { ends_ms, ..of_parts(parts) })
}

fn of_container(address: &str, variables: Variables<'_>, timeout: Duration) -> Result<Keys, String> {
    let token = match variables("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => Some(SecretString::from(read(Path::new(&file))?.trim())),
        None => variables("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(SecretString::from),
    };
    let agent = agent(None, timeout)?;
    let request = agent.get(safe(address)?);
    let request = match &token {
        Some(token) => request.header("authorization", token.expose_secret()),
        None => request,
    };
    keys_of(&answered(request.call())?)
}

fn of_machine(address: &str, timeout: Duration) -> Result<Keys, String> {
    let agent = agent(None, timeout)?;
    let ask = |path: &str, token: &str| {
        let request = agent.get(format!("{address}/latest/meta-data/iam/security-credentials/{path}"));
        answered(request.header("x-aws-ec2-metadata-token", token).call())
    };
    let text = |answer: super::super::http::Answer| match answer.status.is_success() {
        true => Ok(String::from_utf8_lossy(&answer.bytes).trim().to_owned()),
        false => Err(format!("it answers {}", answer.status.as_u16())),
    };
    let session = agent.put(format!("{address}/latest/api/token")).header("x-aws-ec2-metadata-token-ttl-seconds", "60");
    let session = text(answered(session.send_empty())?)?;
    let roles = text(ask("", &session)?)?;
    let role = roles.lines().next().filter(|role| role.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'));
    keys_of(&ask(role.ok_or("it has no role")?, &session)?)
}

/// An address that may be asked for keys: over TLS, or without leaving the machine.
fn safe(address: &str) -> Result<Uri, String> {
    let url: Uri = address.parse().map_err(|_| "its address is none".to_owned())?;
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_near = CONTAINER_HOSTS.contains(&host) || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if is_near => Ok(url),
        _ => Err("its address is neither https nor one of this machine".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::super::tests::tokens::Service;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// The keys that the surroundings give where these variables are set.
    fn find_with(variables: &[(&str, &str)]) -> Result<(String, String, Option<String>, Option<i64>), String> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let identity = AwsIdentity { region: "eu-central-1".into(), source: AwsSource::Surroundings };
        let variable = |name: &str| variables.get(name).map(|text| (*text).to_owned());
        let keys = find(&identity, &SecretString::from(""), &variable, PATIENCE)?;
        let shown = |secret: &SecretString| secret.expose_secret().to_owned();
        Ok((
            shown(&keys.access_key_id),
            shown(&keys.secret_access_key),
            keys.session_token.as_ref().map(shown),
            keys.ends_ms,
        ))
    }

    fn keys(
        token: Option<&str>,
        ends_ms: Option<i64>,
    ) -> Result<(String, String, Option<String>, Option<i64>), String> {
        Ok(("AKIA".to_owned(), "key+/=".to_owned(), token.map(str::to_owned), ends_ms))
    }

    const JSON: &str =
        r#"{"AccessKeyId":"AKIA","SecretAccessKey":"key+/=","Token":"t","Expiration":"2024-05-17T09:08:07Z"}"#;
    const ENDS_MS: i64 = 1_715_936_887_000;

    #[test]
    fn the_surroundings_are_asked_in_the_order_of_aws() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("credentials");
        let text = "[other]\naws_access_key_id = no\n[default]\n# a comment\naws_access_key_id=AKIA\n AWS_Secret_Access_Key = key+/=\n\
                    [more]\naws_access_key_id = AKIA\naws_secret_access_key = key+/=\naws_session_token = t\n[cut]\naws_access_key_id = x\n";
        std::fs::write(&file, text).expect("a file");
        let path = file.display().to_string();
        let shared = ("AWS_SHARED_CREDENTIALS_FILE", &*path);
        assert_eq!(find_with(&[shared]), keys(None, None));
        assert_eq!(find_with(&[shared, ("AWS_PROFILE", "more")]), keys(Some("t"), None));
        for profile in ["cut", "other", "none"] {
            let error = find_with(&[shared, ("AWS_PROFILE", profile)]).expect_err(profile);
            assert_eq!(error, format!("{path}: there is no profile {profile:?} with keys"));
        }
        let environment = [
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/none"),
            ("AWS_ROLE_ARN", "r"),
            shared,
        ];
        assert_eq!(find_with(&environment), Ok(("a".to_owned(), "b".to_owned(), None, None)));
        let error = find_with(&environment[2..]).expect_err("no such file");
        assert!(error.starts_with("the web identity: /none: "), "{error}");
        let off = ("AWS_EC2_METADATA_DISABLED", "true");
        assert_eq!(find_with(&[off]), Err("the surroundings of the daemon have no keys of AWS".to_owned()));
    }

    #[test]
    fn a_web_identity_becomes_a_role() {
        let dir = tempfile::tempdir().expect("a directory");
        let token = dir.path().join("token");
        std::fs::write(&token, "jwt/+\n").expect("a file");
        let sts = Service::start(|asked| {
            let expected = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr\
                            &RoleSessionName=tidegate&WebIdentityToken=jwt%2F%2B";
            let xml = "<R><Credentials><AccessKeyId>AKIA</AccessKeyId>\n<SecretAccessKey>key+/=</SecretAccessKey>\
                       <SessionToken>t</SessionToken><Expiration>2024-05-17T09:08:07Z</Expiration></Credentials></R>";
            if asked.body == expected { (200, xml.to_owned()) } else { (403, "planted".to_owned()) }
        });
        let path = token.display().to_string();
        let with = |role| {
            find_with(&[
                ("AWS_WEB_IDENTITY_TOKEN_FILE", &path),
                ("AWS_ROLE_ARN", role),
                ("AWS_ENDPOINT_URL_STS", &sts.url),
            ])
        };
        assert_eq!(with("arn:aws:iam::1:role/r"), keys(Some("t"), Some(ENDS_MS)));
        assert_eq!(with("another"), Err("the web identity: it answers 403".to_owned()));
    }

    #[test]
    fn a_container_has_a_role() {
        let service = Service::start(|asked| match asked.head.lines().any(|line| line == "authorization: pod") {
            true => (200, JSON.to_owned()),
            false => (401, "planted".to_owned()),
        });
        let address = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*service.url);
        assert_eq!(find_with(&[address, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod")]), keys(Some("t"), Some(ENDS_MS)));
        assert_eq!(find_with(&[address]), Err("the container: it answers 401".to_owned()));
        let far = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://keys.example.com/")];
        let error = "the container: its address is neither https nor one of this machine".to_owned();
        assert_eq!(find_with(&far), Err(error));
    }

    #[test]
    fn a_machine_has_a_role() {
        let service = Service::start(|asked| {
            let has = |line: &str| asked.head.lines().any(|found| found == line);
            let is_known = has("x-aws-ec2-metadata-token: session");
            match asked.head.lines().next() {
                Some("PUT /latest/api/token HTTP/1.1") if has("x-aws-ec2-metadata-token-ttl-seconds: 60") => {
                    (200, "session".to_owned())
                }
                Some("GET /latest/meta-data/iam/security-credentials/ HTTP/1.1") if is_known => {
                    (200, "role\n".to_owned())
                }
                Some("GET /latest/meta-data/iam/security-credentials/role HTTP/1.1") if is_known => {
                    (200, JSON.to_owned())
                }
                _ => (400, "planted".to_owned()),
            }
        });
        assert_eq!(find_with(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &service.url)]), keys(Some("t"), Some(ENDS_MS)));
    }
}
