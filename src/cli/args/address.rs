//! Where the daemon is, and who we are to it.

use std::path::PathBuf;

use clap::Args;

/// Where the daemon is, and who we are to it.
#[derive(Args, Clone, Debug)]
pub struct Address {
    /// Where the daemon listens: http://HOST:PORT or https://HOST:PORT.
    #[arg(long, env = "TIDEGATE_URL", default_value = "http://127.0.0.1:8081")]
    pub url: String,
    /// A file with the token. Without it, the variable TIDEGATE_TOKEN has the token itself, if it is set.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TOKEN_FILE", help_heading = "Security")]
    pub token_file: Option<PathBuf>,
    /// The authorities that the daemon's certificate comes from, as PEM; without it those that the system trusts.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CA_FILE", help_heading = "Security")]
    pub ca_file: Option<PathBuf>,
    /// A client certificate for the daemon, as PEM.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CERT_FILE", requires = "key_file", help_heading = "Security")]
    pub cert_file: Option<PathBuf>,
    /// Its key, as PEM.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_KEY_FILE", requires = "cert_file", help_heading = "Security")]
    pub key_file: Option<PathBuf>,
    /// Send the token without TLS to another machine, where something else encrypts. Without it, a token goes to https:// and to this machine only.
    #[arg(long, env = "TIDEGATE_INSECURE_PLAINTEXT", help_heading = "Security")]
    pub insecure_plaintext: bool,
}
