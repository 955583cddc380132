//! A configured instance of a plugin, owned by one lane, and its calls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{AsContextMut, Store};

use super::bindings::{filtering, lifecycle, transforming, types};
use super::component::{Columns, Description, Plugin, Refusal, WorkIndices, one_line};
use super::host::{HostState, StageMetrics};
use super::limits::{CONFIG_FAULT_BYTES_MAX, CONFIG_FAULTS_MAX, DESCRIPTION_BYTES_MAX, Limits};
use super::outputs::{self, Fault, Outputs};
use crate::model::Batch;

/// What ended a call, and with it the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrapKind {
    /// The plugin itself: a panic, an unreachable, a division by zero.
    Panic,
    /// The limit of CPU time.
    Time,
    /// The limit of memory.
    Memory,
    /// The limit of what may be handed to the host.
    Output,
    /// The answer breaks the contract.
    Contract,
}

impl TrapKind {
    /// A stable word, for states and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Panic => "plugin-panic",
            Self::Time => "plugin-time-limit",
            Self::Memory => "plugin-memory-limit",
            Self::Output => "plugin-output-limit",
            Self::Contract => "plugin-contract",
        }
    }
}

/// A call that failed. The instance it was made on is gone.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Trap {
    /// What ended the call.
    pub kind: TrapKind,
    /// What is known of the cause.
    pub message: String,
}

/// Why a plugin could not be configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The plugin refuses the configuration.
    Refused(Vec<ConfigFault>),
    /// The plugin failed.
    Trapped(Trap),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(faults) => {
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                write!(f, "configuration: {}", faults.join("; "))
            }
            Self::Trapped(trap) => write!(f, "fails in configure: {trap}"),
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// A JSON Pointer into the configuration; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        write!(f, "{path}: {}", self.message)
    }
}

/// A record that a plugin cannot handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Its index in the batch that the stage got.
    pub index: usize,
    /// Its offset in the source partition.
    pub offset: i64,
    /// The plugin's code for it.
    pub code: String,
    /// What is wrong.
    pub message: String,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Done {
    /// What goes on.
    pub batch: Batch,
    /// What could not be handled, in order.
    pub rejects: Vec<Reject>,
    /// Records of the input that have no output and were not rejected.
    pub dropped: usize,
    /// Records of `batch` that differ from their input, or are one of several.
    pub changed: usize,
    /// CPU time of the call.
    pub cpu_time: Duration,
}

/// A configured instance of a plugin.
pub struct Instance {
    store: Store<HostState>,
    work: Work,
    needs: Columns,
    routes: Vec<Arc<str>>,
}

enum Work {
    Filter(filtering::Guest),
    Transform(transforming::Guest),
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("routes", &self.routes).finish_non_exhaustive()
    }
}

impl Instance {
    /// Ask a fresh instance what the plugin is, once all its exports have the types of the contract.
    pub(super) fn describe(plugin: &Plugin) -> Result<Description, Refusal> {
        let limits = Limits { output_bytes: DESCRIPTION_BYTES_MAX, ..Limits::default() };
        let mut store = new_store(plugin, &"describe".into(), &limits, &Arc::default());
        let mut misfit = None;
        let description = run(&mut store, |store| {
            let instance = plugin.pre().instantiate(store.as_context_mut())?;
            let (lifecycle, _) =
                exports(plugin, store, &instance).inspect_err(|error| misfit = Some(one_line(error)))?;
            lifecycle.call_describe(store.as_context_mut())
        })
        .map_err(|trap| misfit.map_or(Refusal::Describe(trap), Refusal::Signature))?;
        let needs = |column| description.needs.contains(column);
        Ok(Description {
            needs: Columns {
                key: needs(types::Columns::KEY),
                value: needs(types::Columns::VALUE),
                headers: needs(types::Columns::HEADERS),
                timestamp: needs(types::Columns::TIMESTAMP),
                offset: needs(types::Columns::OFFSET),
            },
            name: description.name,
            version: description.version,
            config_schema: description.config_schema,
        })
    }

    pub(super) fn configure(
        plugin: &Arc<Plugin>,
        stage: &Arc<str>,
        config: &str,
        limits: &Limits,
        metrics: &Arc<StageMetrics>,
    ) -> Result<Self, ConfigError> {
        let mut store = new_store(plugin, stage, limits, metrics);
        let (answer, work) = run(&mut store, |store| {
            let instance = plugin.pre().instantiate(store.as_context_mut())?;
            let (lifecycle, work) = exports(plugin, store, &instance)?;
            Ok((lifecycle.call_configure(store.as_context_mut(), stage, config)?, work))
        })
        .map_err(ConfigError::Trapped)?;
        let setup = answer.map_err(|faults| {
            let fault =
                |fault: lifecycle::ConfigError| ConfigFault { path: cut(fault.path), message: cut(fault.message) };
            ConfigError::Refused(faults.into_iter().take(CONFIG_FAULTS_MAX).map(fault).collect())
        })?;
        if matches!(work, Work::Filter(_)) && !setup.routes.is_empty() {
            let message = format!("the filter declared {} routes, and a filter has none", setup.routes.len());
            return Err(ConfigError::Trapped(Trap { kind: TrapKind::Contract, message }));
        }
        let routes = setup.routes.into_iter().map(Arc::from).collect();
        Ok(Self { store, work, needs: plugin.description().needs, routes })
    }

    /// The topics that the plugin may route to.
    pub fn routes(&self) -> &[Arc<str>] {
        &self.routes
    }

    /// Linear memory in use, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory_bytes()
    }

    /// Let the plugin work on a batch.
    ///
    /// # Errors
    /// The plugin trapped, and is gone: that is why this takes `self`. The batch comes back as it was.
    #[allow(clippy::result_large_err, reason = "a trap is rare, and the batch would be copied to make it smaller")]
    pub fn call(mut self, mut batch: Batch) -> Result<(Self, Done), (Batch, Trap)> {
        let answer = match &self.work {
            Work::Filter(filter) => run(&mut self.store, |store| filter.call_filter(store, lower(&batch, self.needs)))
                .map(|verdicts| Answer::Filter(verdicts.keep, verdicts.rejects)),
            Work::Transform(transform) => {
                run(&mut self.store, |store| transform.call_transform(store, lower(&batch, self.needs)))
                    .map(Answer::Transform)
            }
        };
        let cpu_time = self.store.data().cpu_time_of_call();
        let output_bytes = self.store.data().limits().output_bytes;
        let applied = answer.and_then(|answer| {
            apply(answer, &mut batch, &self.routes, output_bytes).map_err(|fault| blame(fault, output_bytes))
        });
        match applied {
            Ok(Applied { rejects, dropped, changed }) => {
                Ok((self, Done { batch, rejects, dropped, changed, cpu_time }))
            }
            Err(trap) => Err((batch, trap)),
        }
    }
}

enum Answer {
    Filter(Vec<u8>, Vec<types::Reject>),
    Transform(types::Outputs),
}

struct Applied {
    rejects: Vec<Reject>,
    dropped: usize,
    changed: usize,
}

/// Check an answer, then apply it.
fn apply(answer: Answer, batch: &mut Batch, routes: &[Arc<str>], bytes_max: usize) -> Result<Applied, Fault> {
    let count = batch.len();
    match answer {
        Answer::Filter(mut keep, rejects) => {
            if keep.len() != batch.len() {
                let (found, wanted) = (keep.len(), batch.len());
                return Err(format!("the filter answered {found} verdicts for {wanted} records").into());
            }
            let rejects = check_rejects(rejects, batch)?;
            rejects.iter().for_each(|reject| keep[reject.index] = 0);
            batch.retain(&keep);
            Ok(Applied { dropped: count - batch.len() - rejects.len(), rejects, changed: 0 })
        }
        Answer::Transform(answer) => {
            let rejects = check_rejects(answer.rejects, batch)?;
            let used = answer.sources.chunk_by(|a, b| a == b).count();
            let outputs = Outputs {
                sources: answer.sources,
                arena: answer.arena,
                keys: answer.keys,
                values: answer.values,
                header_counts: answer.header_counts,
                headers: answer.headers,
                timestamps: answer.timestamps,
                routes: answer.routes,
                partition_keys: answer.partition_keys,
            };
            let changed;
            (*batch, changed) = outputs::apply(outputs, batch, routes, &rejects, bytes_max)?;
            Ok(Applied { dropped: count - used - rejects.len(), rejects, changed })
        }
    }
}

fn check_rejects(rejects: Vec<types::Reject>, batch: &Batch) -> Result<Vec<Reject>, String> {
    let ordered = rejects.windows(2).all(|pair| pair[0].index < pair[1].index);
    if !ordered || rejects.last().is_some_and(|last| last.index as usize >= batch.len()) {
        return Err("the rejects are not in order, or not of this batch".to_owned());
    }
    let reject = |reject: types::Reject| Reject {
        index: reject.index as usize,
        offset: batch.offsets[reject.index as usize],
        code: reject.code,
        message: reject.message,
    };
    Ok(rejects.into_iter().map(reject).collect())
}

fn blame(fault: Fault, output_bytes: usize) -> Trap {
    match fault {
        Fault::Contract(message) => Trap { kind: TrapKind::Contract, message },
        Fault::TooLarge => Trap {
            kind: TrapKind::Output,
            message: format!("its records take more than {output_bytes} bytes beside those of the input"),
        },
    }
}

/// What a plugin says of its configuration, cut to what a person would read.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(CONFIG_FAULT_BYTES_MAX));
    text
}

/// The exports that are called, with the types of the contract.
fn exports(
    plugin: &Plugin,
    store: &mut Store<HostState>,
    instance: &wasmtime::component::Instance,
) -> wasmtime::Result<(lifecycle::Guest, Work)> {
    let work = match &plugin.work {
        WorkIndices::Filter(indices) => Work::Filter(indices.load(store.as_context_mut(), instance)?),
        WorkIndices::Transform(indices) => Work::Transform(indices.load(store.as_context_mut(), instance)?),
    };
    Ok((plugin.lifecycle.load(store.as_context_mut(), instance)?, work))
}

fn new_store(plugin: &Plugin, stage: &Arc<str>, limits: &Limits, metrics: &Arc<StageMetrics>) -> Store<HostState> {
    let state = HostState::new(stage.clone(), metrics.clone(), limits.clone());
    let mut store = Store::new(plugin.engine().wasmtime(), state);
    store.limiter(|state| state);
    store.set_hostcall_fuel(limits.output_bytes);
    store.epoch_deadline_callback(|mut context| Ok(context.data_mut().tick()));
    store
}

/// Run one call, and say what ended it if it failed.
fn run<R>(
    store: &mut Store<HostState>,
    call: impl FnOnce(&mut Store<HostState>) -> wasmtime::Result<R>,
) -> Result<R, Trap> {
    store.data_mut().begin_call();
    store.set_epoch_deadline(1);
    call(store).map_err(|error| explain(&error, store.data()))
}

fn explain(error: &wasmtime::Error, state: &HostState) -> Trap {
    let (call, limits) = (state.call(), state.limits());
    let text = one_line(error);
    let said = call.last_error.as_deref();
    if call.timed_out {
        let message = format!("used more than {} ms of CPU time for one call", limits.time.as_millis());
        return Trap { kind: TrapKind::Time, message };
    }
    if text.contains("fuel allocated for hostcalls") {
        let message = format!("handed more than {} bytes to the host in one call", limits.output_bytes);
        return Trap { kind: TrapKind::Output, message };
    }
    if call.memory_denied {
        let message = format!("asked for more than {} bytes of memory", limits.memory_bytes);
        return Trap { kind: TrapKind::Memory, message };
    }
    let cause = error.downcast_ref::<wasmtime::Trap>().map_or(text, ToString::to_string);
    Trap { kind: TrapKind::Panic, message: said.map_or(cause.clone(), |said| format!("{said} ({cause})")) }
}

/// The batch as the plugin sees it: only the columns that it asked for.
fn lower(batch: &Batch, needs: Columns) -> types::Batch<'_> {
    fn column<T>(needed: bool, column: &[T]) -> &[T] {
        if needed { column } else { &[] }
    }
    let reads_bytes = needs.key || needs.value || needs.headers;
    types::Batch {
        topic: &batch.topic,
        partition: batch.partition,
        count: batch.len() as u32,
        arena: column(reads_bytes, &batch.arena),
        keys: column(needs.key, bytemuck::cast_slice(&batch.keys)),
        values: column(needs.value, bytemuck::cast_slice(&batch.values)),
        header_ends: column(needs.headers, &batch.header_ends),
        headers: column(needs.headers, bytemuck::cast_slice(&batch.headers)),
        timestamps: column(needs.timestamp, &batch.timestamps),
        offsets: column(needs.offset, &batch.offsets),
        // A pipeline gets whole batches of source records, so it never cuts between siblings.
        first_ordinal: 0,
    }
}
