//! Build plugins: Rust to a core module for wasm32-unknown-unknown, and that to a component.
//!
//! The toolchain in use builds them if it has the target. Otherwise Debian's `rustc-web` does, which brings the sources
//! of the standard library, so that nothing but the package mirror is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use wit_component::{ComponentEncoder, DecodedWasm};

/// What went wrong, and what to do about it.
pub(crate) type Result<T> = std::result::Result<T, String>;

const TARGET: &str = "wasm32-unknown-unknown";

/// The packages that can build plugins on Debian.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Everything that a component may import.
const OFFERED: [&str; 3] = ["tidegate:plugin/host@", "tidegate:plugin/state@", "tidegate:plugin/types@"];

/// The profile `plugin` for a crate in another workspace, where the manifest does not have it.
const PROFILE: [&str; 6] = [
    "profile.plugin.inherits='release'",
    "profile.plugin.codegen-units=1",
    "profile.plugin.lto=true",
    "profile.plugin.opt-level=3",
    "profile.plugin.panic='abort'",
    "profile.plugin.strip=true",
];

/// Build the named plugins of this workspace, or all if `names` is empty. Answers the components: `<out_dir>/<name>.wasm`. They
/// are written whether they have changed or not: the time of a file says that it is as new as its sources.
pub(crate) fn build(names: &[String], out_dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = find(&crate::root())?;
    if let Some(name) = names.iter().find(|name| !found.plugins.contains(name)) {
        return Err(format!("there is no plugin {name}; there are {}", found.plugins.join(", ")));
    }
    if !names.is_empty() {
        found.plugins = names.to_vec();
    }
    found.build(out_dir)
}

/// Build the plugins of the package or workspace in `dir`, which need not belong to this workspace.
pub(crate) fn build_at(dir: &Path, out_dir: &Path) -> Result<Vec<PathBuf>> {
    let found = find(dir)?;
    if found.plugins.is_empty() {
        return Err(format!("{} has no plugin: its Cargo.toml needs [lib] crate-type = [\"cdylib\"]", dir.display()));
    }
    found.build(out_dir)
}

/// Plugins of one workspace.
struct Found {
    manifest: PathBuf,
    target_dir: PathBuf,
    plugins: Vec<String>,
}

/// The packages in `dir` that are libraries for WebAssembly.
fn find(dir: &Path) -> Result<Found> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
        target_directory: PathBuf,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        targets: Vec<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        crate_types: Vec<String>,
    }
    let manifest = dir.join("Cargo.toml");
    let json = output(
        Command::new("cargo").args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"]).arg(&manifest),
    )?;
    let metadata: Metadata =
        serde_json::from_str(&json).map_err(|error| format!("cannot read what `cargo metadata` says: {error}"))?;
    let is_plugin = |package: &Package| package.targets.iter().any(|t| t.crate_types.iter().any(|t| t == "cdylib"));
    let plugins = metadata.packages.into_iter().filter(is_plugin).map(|package| package.name).collect();
    Ok(Found { manifest, target_dir: metadata.target_directory, plugins })
}

impl Found {
    fn build(&self, out_dir: &Path) -> Result<Vec<PathBuf>> {
        let mut cargo = toolchain()?;
        cargo.args(["build", "--quiet", "--profile=plugin", "--target", TARGET]);
        cargo.arg("--target-dir").arg(&self.target_dir).arg("--manifest-path").arg(&self.manifest);
        cargo.args(PROFILE.iter().flat_map(|setting| ["--config", setting]));
        cargo.args(self.plugins.iter().flat_map(|name| ["--package", name]));
        run(&mut cargo)?;
        self.plugins.iter().map(|name| self.componentize(name, out_dir)).collect()
    }

    /// Make a component of the core module that cargo has built.
    fn componentize(&self, name: &str, out_dir: &Path) -> Result<PathBuf> {
        let module = self.target_dir.join(TARGET).join("plugin").join(name.replace('-', "_")).with_extension("wasm");
        let module = fs::read(&module).map_err(|error| format!("cannot read {}: {error}", module.display()))?;
        let component = encode(&module).map_err(|error| format!("{name} is no component: {error}"))?;
        let path = out_dir.join(format!("{name}.wasm"));
        fs::create_dir_all(out_dir)
            .and_then(|()| fs::write(&path, &component))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    }
}

/// The component of a core module, which imports nothing that the host does not offer.
fn encode(module: &[u8]) -> Result<Vec<u8>> {
    let component = ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| format!("{error:#}"))?;
    let decoded = wit_component::decode(&component).map_err(|error| format!("{error:#}"))?;
    let DecodedWasm::Component(resolve, world) = decoded else { return Err("it describes a package".to_owned()) };
    let imports = resolve.worlds[world].imports.keys().map(|key| resolve.name_world_key(key));
    match imports.into_iter().find(|import| !OFFERED.iter().any(|offered| import.starts_with(offered))) {
        Some(import) => Err(format!("it imports {import}, which the host does not offer")),
        None => Ok(component),
    }
}

/// A cargo that can build for WebAssembly.
fn toolchain() -> Result<Command> {
    if has_target()? {
        return Ok(clean("cargo"));
    }
    if !debian_is_ready() {
        install_debian()?;
    }
    let mut cargo = clean("/usr/bin/cargo");
    cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1").env_remove("LD_LIBRARY_PATH");
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker()?);
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", "-Clinker-flavor=wasm-ld");
    cargo.arg("-Zbuild-std=std,panic_abort");
    Ok(cargo)
}

/// Whether the toolchain in use has the standard library for the target.
fn has_target() -> Result<bool> {
    let libraries = output(clean("rustc").args(["--print=target-libdir", "--target", TARGET]))?;
    Ok(Path::new(libraries.trim()).is_dir())
}

/// Whether Debian's toolchain and the sources of its standard library are there.
fn debian_is_ready() -> bool {
    ["/usr/bin/cargo", "/usr/bin/rustc", "/usr/lib/rustlib/src/rust/library/std"].iter().all(|p| Path::new(p).exists())
}

/// Install Debian's toolchain, if we may.
fn install_debian() -> Result<()> {
    let is_root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !is_root || !Path::new("/usr/bin/apt-get").exists() {
        return Err(format!(
            "no toolchain for {TARGET}; run `rustup target add {TARGET}`, or on Debian \
             `apt-get update && apt-get install --no-install-recommends {}`",
            DEBIAN_PACKAGES.join(" ")
        ));
    }
    eprintln!("installing Debian's {} to build plugins", DEBIAN_PACKAGES.join(", "));
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    let mut install = Command::new("apt-get");
    install.args(["-qq", "install", "--yes", "--no-install-recommends"]).args(DEBIAN_PACKAGES);
    run(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The linker for WebAssembly: every toolchain of rustup has one.
fn linker() -> Result<PathBuf> {
    let sysroot = output(clean("rustc").arg("--print=sysroot"))?;
    let host = output(clean("rustc").arg("--print=host-tuple"))?;
    let bundled = Path::new(sysroot.trim()).join("lib/rustlib").join(host.trim()).join("bin/rust-lld");
    let known = [bundled, PathBuf::from("/usr/bin/rust-lld")];
    known.into_iter().find(|path| path.exists()).ok_or_else(|| "there is no rust-lld; install lld".to_owned())
}

/// A command without what the cargo that runs us has set for itself.
fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in [
        "CARGO",
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "RUSTC",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOC",
        "RUSTFLAGS",
    ] {
        command.env_remove(name);
    }
    command
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| format!("cannot run {}: {error}", shown(command)))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} failed: {}", shown(command), message.trim()));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{} does not answer in UTF-8: {error}", shown(command)))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| format!("cannot run {}: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} failed", shown(command))) }
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
