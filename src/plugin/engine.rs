//! One per daemon: the compiler, the tick that interrupts plugins, and the cache of compiled code.

use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dashmap::DashMap;
use wasmtime::component::Component;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmFeatures};

use super::cache::Cache;
use super::compiler::Compiler;
use super::component::{Plugin, Refusal};
use super::text::one_line;
use crate::model::Digest;
use crate::model::limits::INSTANCES_MAX;

/// How often a running plugin is looked at. A time limit is kept to within about this much.
const TICK: Duration = Duration::from_millis(10);

/// The largest memory of an instance, in bytes: all that 32 bits can address.
const MEMORY_BYTES_MAX: usize = 4 << 30;

/// Memories of one module, and tables. A stage's limit of instances holds as well.
const PER_MODULE_MAX: u32 = 64;

/// The most elements of a table.
const TABLE_ELEMENTS_MAX: usize = 1_000_000;

/// What of a memory that was used stays with the process for the next instance, in bytes.
const RESIDENT_BYTES: usize = 1 << 20;

/// The same for a table: that of an interpreter has some thousand elements of eight bytes.
const RESIDENT_TABLE_BYTES: usize = 128 << 10;

/// Of so many memories that nobody uses this much stays with the process: one that traps is instantiated anew in its own.
const WARM_SLOTS_MAX: u32 = 32;

/// What a plugin's calls may take of the stack of the thread that calls it.
const WASM_STACK_BYTES: usize = 512 << 10;

/// The stack of a thread that calls plugins: what they may take, and as much again as our own code takes with room to spare. No depth of it
/// depends on data.
pub const CALLING_STACK_BYTES: usize = WASM_STACK_BYTES + (1 << 20);

/// Compiles plugins and lets them run.
#[derive(Clone)]
pub struct PluginEngine(Arc<Inner>);

struct Inner {
    engine: Engine,
    cache: Option<Cache>,
    /// Compiles in processes of their own; without it, compilation is done in this one.
    compiler: Option<Compiler>,
    /// What was compiled since the daemon started. Links publish and lanes open side by side.
    loaded: DashMap<Digest, Arc<Plugin>>,
}

impl PluginEngine {
    /// An engine that compiles in this process, without limits, and keeps compiled code in `cache_dir`, or nowhere.
    ///
    /// # Errors
    /// The cache directory cannot be made or read.
    pub fn new(cache_dir: Option<&Path>) -> io::Result<Self> {
        Self::with(cache_dir, None)
    }

    /// The same for components of strangers: it compiles in a child process with limits, one component at a time. It starts the running program
    /// anew, which therefore must be `tidegate`.
    ///
    /// # Errors
    /// The cache directory cannot be made or read.
    pub fn compiling_in_child(cache_dir: Option<&Path>) -> io::Result<Self> {
        Self::with(cache_dir, Some(Compiler::default()))
    }

    /// From now on a compiling process may have so many bytes of memory.
    pub fn set_compile_memory(&self, bytes: u64) {
        if let Some(compiler) = &self.0.compiler {
            compiler.set_memory(bytes);
        }
    }

    fn with(cache_dir: Option<&Path>, compiler: Option<Compiler>) -> io::Result<Self> {
        // Where addresses are scarce (a limit of the process), instances are mapped one by one: slower after a trap, and no less safe.
        let engine = Engine::new(&pooled(config())).or_else(|error| {
            tracing::info!(%error, "no pool of instances");
            Engine::new(&config())
        });
        let engine = engine.map_err(io::Error::other)?;
        let cache = cache_dir.map(Cache::open).transpose()?;
        tick(&engine)?;
        Ok(Self(Arc::new(Inner { engine, cache, compiler, loaded: DashMap::new() })))
    }

    /// Compile a component, or take it from the cache, and check what it is.
    ///
    /// It takes from a millisecond (cached) to many seconds (an interpreter of 12 MiB), so it is done off the data path.
    ///
    /// # Errors
    /// A [`Refusal`] says in one sentence why these bytes are not a plugin.
    pub fn load(&self, bytes: &[u8]) -> Result<Arc<Plugin>, Refusal> {
        let digest = Digest::of(bytes);
        if let Some(plugin) = self.0.loaded.get(&digest) {
            return Ok(plugin.clone());
        }
        super::component::check_header(bytes)?;
        let component = self.compile(&digest, bytes)?;
        let plugin = Arc::new(Plugin::new(self, component, digest, bytes.len())?);
        // Many that are refused later, one after the other, must not pile up.
        self.forget_unused();
        self.0.loaded.insert(digest, plugin.clone());
        Ok(plugin)
    }

    /// Forget compiled plugins that nothing uses any more.
    pub fn forget_unused(&self) {
        self.0.loaded.retain(|_, plugin| Arc::strong_count(plugin) > 1);
    }

    pub(super) fn wasmtime(&self) -> &Engine {
        &self.0.engine
    }

    fn compile(&self, digest: &Digest, bytes: &[u8]) -> Result<Component, Refusal> {
        let engine = &self.0.engine;
        let name = format!("{}-{:016x}.cwasm", digest.hex(), compatibility(engine));
        if let Some(code) = self.0.cache.as_ref().and_then(|cache| cache.get(&name)) {
            // SAFETY: the cache answers only what this installation's engine serialized (a keyed hash says so), for the
            // same compiler settings (their hash is in the name, which the keyed hash covers).
            match unsafe { Component::deserialize(engine, &code) } {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!(%digest, %error, "cached code does not load: compiling again"),
            }
        }
        let (component, code) = self.compile_anew(bytes)?;
        if let Some(cache) = &self.0.cache
            && let Some(code) = code.or_else(|| component.serialize().ok())
        {
            cache.put(&name, &code);
        }
        Ok(component)
    }

    /// The component, and its serialized code if that is at hand.
    fn compile_anew(&self, bytes: &[u8]) -> Result<(Component, Option<Vec<u8>>), Refusal> {
        let engine = &self.0.engine;
        let Some(compiler) = &self.0.compiler else {
            let malformed = |error: wasmtime::Error| Refusal::Malformed(one_line(&error));
            return Ok((Component::from_binary(engine, bytes).map_err(malformed)?, None));
        };
        let code = compiler.compile(bytes)?;
        // SAFETY: the code was serialized by this very program, which has the same compiler and settings.
        let component = unsafe { Component::deserialize(engine, &code) };
        Ok((component.map_err(|error| Refusal::Demand(one_line(&error)))?, Some(code)))
    }
}

/// The settings of the compiler, the same in every process.
pub(super) fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        // A trap's message names the record; walking the plugin's stack for each bad one would cost more than the call.
        .wasm_backtrace_max_frames(None)
        .cranelift_opt_level(OptLevel::Speed)
        .max_wasm_stack(WASM_STACK_BYTES);
    // What follows makes a plugin answer the same on every machine: a fleet is mixed, and `verify` replays what another machine has done.
    config
        // Relaxed instructions do what is fastest on a processor, unless told to do what the specification calls deterministic.
        .relaxed_simd_deterministic(true)
        // Which bits a NaN has is up to the processor, and a plugin can store them.
        .cranelift_nan_canonicalization(true)
        // No memory is shared, so there is nothing that two threads could race for. No toolchain needs the instructions.
        .wasm_features(WasmFeatures::THREADS, false)
        .shared_memory(false);
    config
}

/// The same, with room for instances set aside: a plugin that traps is instantiated anew for each bad record, and to map and unmap
/// memory each time takes longer than all else. What is set aside is addresses, not memory.
fn pooled(mut config: Config) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES_MAX)
        .total_core_instances(4 * INSTANCES_MAX)
        .total_memories(INSTANCES_MAX)
        .total_tables(4 * INSTANCES_MAX)
        .max_memory_size(MEMORY_BYTES_MAX)
        .max_memories_per_module(PER_MODULE_MAX)
        .max_tables_per_module(PER_MODULE_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        // An interpreter of 12 MiB needs about one.
        .max_core_instance_size(8 << 20)
        .max_component_instance_size(32 << 20)
        .linear_memory_keep_resident(RESIDENT_BYTES)
        .table_keep_resident(RESIDENT_TABLE_BYTES)
        .max_unused_warm_slots(WARM_SLOTS_MAX)
        .pagemap_scan(Enabled::Auto);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// A number that differs between compilers and settings whose code cannot be exchanged.
fn compatibility(engine: &Engine) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// Advance the engine's epoch for as long as the engine lives.
fn tick(engine: &Engine) -> io::Result<()> {
    let weak = engine.weak();
    thread::Builder::new().name("plugin-tick".to_owned()).spawn(move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    })?;
    Ok(())
}
