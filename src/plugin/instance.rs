//! A configured instance of a plugin, owned by one lane, and its calls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{AsContextMut, PoolConcurrencyLimitError, Store};

use super::bindings::{filtering, lifecycle, migrating, transforming, types};
use super::component::{Columns, Description, NO_ROOM, Plugin, Refusal, WorkIndices};
pub use super::host::MEASURED;
use super::host::{ActiveState, Allowance, HostState};
use super::limits::{
    CODE_BYTES_MAX, CONFIG_FAULT_BYTES_MAX, CONFIG_FAULTS_MAX, DESCRIPTION_BYTES_MAX, LIFECYCLE_CALLS_MAX,
    LINE_BYTES_MAX, MIGRATION_PUTS, ROUTE_BYTES_MAX, ROUTES_MAX,
};
use super::metrics::StageMetrics;
use super::outputs::{self, Fault, Outputs};
use super::state::{Mark, State};
use super::text::{cut, one_line};
use crate::model::{Batch, Limits};

/// CPU time for the migration of one partition's state. It may have to go through all of it.
const MIGRATION_TIME: Duration = Duration::from_secs(10);

/// What ended a call, and with it the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrapKind {
    /// The plugin itself: a panic, an unreachable, a division by zero.
    Panic,
    /// The limit of CPU time.
    Time,
    /// The limits of memory and tables.
    Memory,
    /// The limit of handles.
    Handles,
    /// The limits of what may be handed to the host.
    Output,
    /// The limit of calls of the host.
    HostCalls,
    /// The limit of state.
    State,
    /// What it answers or does breaks the contract.
    Contract,
}

impl TrapKind {
    /// A stable word, for states and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Panic => "plugin-panic",
            Self::Time => "plugin-time-limit",
            Self::Memory => "plugin-memory-limit",
            Self::Handles => "plugin-handle-limit",
            Self::Output => "plugin-output-limit",
            Self::HostCalls => "plugin-host-call-limit",
            Self::State => "plugin-state-limit",
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
    /// The plugin did nothing wrong: there is no room for an instance now.
    NoRoom,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(faults) => {
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                write!(f, "configuration: {}", faults.join("; "))
            }
            Self::Trapped(trap) => write!(f, "fails in configure: {trap}"),
            Self::NoRoom => f.write_str(NO_ROOM),
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

/// What a plugin answered for a batch, checked but not applied yet.
#[derive(Debug)]
pub struct Verdict {
    /// What could not be handled, in order.
    pub rejects: Vec<Reject>,
    /// If a rejected record has left traces in the state that those behind it may have seen: how many of the rejects, from the
    /// first on, are certain. What the plugin says of the records behind them is worth nothing.
    pub certain: Option<usize>,
    /// Where the state was before.
    pub mark: Option<Mark>,
    /// CPU time of the call, if it was measured: one of [`MEASURED`] is.
    pub cpu_time: Option<Duration>,
    product: Product,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one for a call, and it is not kept")]
enum Product {
    /// A byte for each record: 0 drops it.
    Keep(Vec<u8>),
    Made {
        batch: Batch,
        used: usize,
        changed: usize,
    },
}

/// What became of a batch.
#[derive(Debug)]
pub struct Done {
    /// What goes on.
    pub batch: Batch,
    /// Records of the input that have no output and were not rejected.
    pub dropped: usize,
    /// Records of `batch` that differ from their input, or are one of several.
    pub changed: usize,
}

impl Verdict {
    /// Apply it to the batch that it is about.
    pub fn apply(self, mut batch: Batch) -> Done {
        let count = batch.len() - self.rejects.len();
        match self.product {
            Product::Keep(keep) => {
                batch.retain(&keep);
                Done { dropped: count - batch.len(), changed: 0, batch }
            }
            Product::Made { batch, used, changed } => Done { dropped: count - used, changed, batch },
        }
    }
}

/// A call that trapped.
#[derive(Debug)]
pub struct Trapped {
    /// Why.
    pub trap: Trap,
    /// The record that the plugin says it was working on. It may say anything.
    pub hint: Option<usize>,
}

/// A configured instance of a plugin.
pub struct Instance {
    store: Store<HostState>,
    work: Work,
    migrating: Option<migrating::Guest>,
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
    /// Ask a fresh instance what the plugin is, once all its exports have the types of the contract. For a plugin with state, the
    /// version of its layout comes too.
    pub(super) fn describe(plugin: &Plugin) -> Result<(Description, Option<u32>), Refusal> {
        let limits = Limits { output_bytes: DESCRIPTION_BYTES_MAX, ..Limits::default() };
        let mut store = new_store(plugin, &"describe".into(), &limits, &Arc::default());
        let (mut misfit, mut no_room) = (None, false);
        let (description, state_version) = run(&mut store, lifecycle_allowance(&limits), None, |store| {
            let instance = instantiate(plugin, store, &mut no_room)?;
            let Exports { lifecycle, migrating, .. } =
                exports(plugin, store, &instance).inspect_err(|error| misfit = Some(one_line(error)))?;
            let description = lifecycle.call_describe(store.as_context_mut())?;
            let version = migrating.map(|migrating| migrating.call_state_version(store.as_context_mut()));
            Ok((description, version.transpose()?))
        })
        .map_err(|trapped| match misfit {
            _ if no_room => Refusal::NoRoom,
            Some(misfit) => Refusal::Signature(misfit),
            None => Refusal::Describe(trapped.trap),
        })?;
        let needs = |column| description.needs.contains(column);
        let described = Description {
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
        };
        Ok((described, state_version))
    }

    pub(super) fn configure(
        plugin: &Arc<Plugin>,
        stage: &Arc<str>,
        config: &str,
        limits: &Limits,
        metrics: &Arc<StageMetrics>,
    ) -> Result<Self, ConfigError> {
        let mut store = new_store(plugin, stage, limits, metrics);
        let mut no_room = false;
        let (answer, work, migrating) = run(&mut store, lifecycle_allowance(limits), None, |store| {
            let instance = instantiate(plugin, store, &mut no_room)?;
            let Exports { lifecycle, work, migrating } = exports(plugin, store, &instance)?;
            Ok((lifecycle.call_configure(store.as_context_mut(), stage, config)?, work, migrating))
        })
        .map_err(|trapped| if no_room { ConfigError::NoRoom } else { ConfigError::Trapped(trapped.trap) })?;
        let setup = answer.map_err(|faults| {
            let fault = |fault: lifecycle::ConfigError| ConfigFault {
                path: cut(fault.path, CONFIG_FAULT_BYTES_MAX),
                message: cut(fault.message, CONFIG_FAULT_BYTES_MAX),
            };
            ConfigError::Refused(faults.into_iter().take(CONFIG_FAULTS_MAX).map(fault).collect())
        })?;
        check_routes(&work, &setup.routes)
            .map_err(|message| ConfigError::Trapped(Trap { kind: TrapKind::Contract, message }))?;
        let routes = setup.routes.into_iter().map(Arc::from).collect();
        Ok(Self { store, work, migrating, needs: plugin.description().needs, routes })
    }

    /// The topics that the plugin may route to.
    pub fn routes(&self) -> &[Arc<str>] {
        &self.routes
    }

    /// Linear memory in use, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.store.data().memory_bytes()
    }

    /// Let the plugin work on a batch, for at most `time` of CPU time. A stateful plugin works with `state`, which it changes; who calls
    /// accepts or undoes that.
    ///
    /// # Errors
    /// The plugin trapped, and is gone: that is why this takes `self`. What it did to the state is undone.
    #[allow(clippy::result_large_err, reason = "a trap is rare")]
    pub fn call(
        mut self,
        batch: &Batch,
        time: Duration,
        state: Option<&mut State>,
    ) -> Result<(Self, Verdict), Trapped> {
        let host_calls = self.limits().host_calls_per_record.saturating_mul(batch.len() as u64);
        let allowance = Allowance { time, host_calls, host_bytes: self.limits().output_bytes };
        let mut state = state.map(|state| (state.mark(), state));
        let active =
            state.as_mut().map(|(_, state)| ActiveState::new(std::mem::take(*state), batch.timestamps.clone()));
        let (work, needs) = (&self.work, self.needs);
        let answer = run(&mut self.store, allowance, active, |store| match work {
            Work::Filter(filter) => filter
                .call_filter(store, lower(batch, needs))
                .map(|verdicts| Answer::Filter(verdicts.keep, verdicts.rejects)),
            Work::Transform(transform) => transform.call_transform(store, lower(batch, needs)).map(Answer::Transform),
        });
        let cpu_time = self.store.data().cpu_time_of_call();
        if let (Some((_, state)), Some(active)) = (&mut state, self.store.data_mut().call_mut().state.take()) {
            **state = active.state;
        }
        let checked = answer.and_then(|answer| {
            check(answer, batch, &self.routes, self.limits())
                .map_err(|fault| Trapped { trap: blame(fault, self.limits()), hint: None })
        });
        match checked {
            Ok((rejects, product)) => {
                let mark = state.as_ref().map(|(mark, _)| *mark);
                let certain = state.and_then(|(mark, state)| advance(state, mark, batch, &rejects));
                Ok((self, Verdict { rejects, certain, mark, cpu_time, product }))
            }
            Err(trapped) => {
                if let Some((mark, state)) = state {
                    state.undo(mark);
                }
                Err(trapped)
            }
        }
    }

    /// Turn the state of a partition from one layout into another.
    ///
    /// # Errors
    /// The plugin says that it cannot, or trapped. Then the state is what it was.
    pub fn migrate(&mut self, from: u32, to: u32, state: &mut State) -> Result<(), String> {
        let Some(migrating) = &self.migrating else { return Err("the plugin has no state".to_owned()) };
        let mark = state.mark();
        let active = Some(ActiveState::new(std::mem::take(state), Vec::new()));
        // What is undone if it fails waits in memory, so there must be an end to what it changes.
        let host_bytes = self.limits().state_bytes.saturating_mul(MIGRATION_PUTS);
        let allowance = Allowance { time: MIGRATION_TIME, host_calls: u64::MAX, host_bytes };
        let answer = run(&mut self.store, allowance, active, |store| migrating.call_migrate_state(store, from, to));
        if let Some(active) = self.store.data_mut().call_mut().state.take() {
            *state = active.state;
        }
        let answer = answer
            .map_err(|trapped| trapped.trap.message)
            .and_then(|answer| answer.map_err(|text| cut(text, LINE_BYTES_MAX)));
        if answer.is_err() {
            state.undo(mark);
        }
        answer
    }

    fn limits(&self) -> &Limits {
        self.store.data().limits()
    }
}

enum Answer {
    Filter(Vec<u8>, Vec<types::Reject>),
    Transform(types::Outputs),
}

/// Believe an answer, or say what is wrong with it.
fn check(answer: Answer, batch: &Batch, routes: &[Arc<str>], limits: &Limits) -> Result<(Vec<Reject>, Product), Fault> {
    match answer {
        Answer::Filter(mut keep, rejects) => {
            if keep.len() != batch.len() {
                let (found, wanted) = (keep.len(), batch.len());
                return Err(format!("the filter answered {found} verdicts for {wanted} records").into());
            }
            let rejects = check_rejects(rejects, batch)?;
            rejects.iter().for_each(|reject| keep[reject.index] = 0);
            if let Some(other) = keep.iter().find(|keep| **keep > 1) {
                return Err(format!("the filter answered {other} as a verdict, which is neither 0 nor 1").into());
            }
            Ok((rejects, Product::Keep(keep)))
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
            let (batch, changed) = outputs::apply(outputs, batch, routes, &rejects, limits)?;
            Ok((rejects, Product::Made { batch, used, changed }))
        }
    }
}

/// Move the record time on, past the records that were not rejected.
///
/// That is right only if the rejected ones left no trace for those behind them: neither an entry nor a later record
/// time. If one did, the number of rejects up to it comes back, and the time stays.
fn advance(state: &mut State, mark: Mark, batch: &Batch, rejects: &[Reject]) -> Option<usize> {
    let position = |index: usize| rejects.binary_search_by_key(&index, |reject| reject.index).ok();
    let wrote = state.changed_at(mark).filter_map(|at| position(at as usize)).min();
    let (mut with, mut without) = (state.time(), state.time());
    // The first reject that is ahead of all others.
    let mut ahead = None;
    let mut moved = None;
    for (index, timestamp) in batch.timestamps.iter().enumerate() {
        with = with.max(*timestamp);
        match position(index) {
            Some(reject) => ahead = ahead.or((with > without).then_some(reject)),
            None => {
                without = without.max(*timestamp);
                moved = moved.or(ahead.filter(|_| with > without));
                ahead = ahead.filter(|_| with > without);
            }
        }
    }
    let certain = wrote.into_iter().chain(moved).min().map(|reject| reject + 1);
    if certain.is_none() {
        state.advance(without);
    }
    certain
}

/// What is wrong with the topics that a plugin declares.
fn check_routes(work: &Work, routes: &[String]) -> Result<(), String> {
    let count = routes.len();
    if matches!(work, Work::Filter(_)) && count > 0 {
        return Err(format!("the filter declared {count} routes, and a filter has none"));
    }
    if count > ROUTES_MAX {
        return Err(format!("the plugin declared {count} routes, and may declare {ROUTES_MAX}"));
    }
    match routes.iter().map(String::len).find(|bytes| *bytes > ROUTE_BYTES_MAX) {
        Some(long) => {
            Err(format!("the plugin declared a route of {long} bytes, and a topic's name may have {ROUTE_BYTES_MAX}"))
        }
        None => Ok(()),
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
        code: cut(reject.code, CODE_BYTES_MAX),
        message: cut(reject.message, LINE_BYTES_MAX),
    };
    Ok(rejects.into_iter().map(reject).collect())
}

fn blame(fault: Fault, limits: &Limits) -> Trap {
    let too_much = |message| Trap { kind: TrapKind::Output, message };
    match fault {
        Fault::Contract(message) => Trap { kind: TrapKind::Contract, message },
        Fault::TooLarge => {
            too_much(format!("its records take more than {} bytes beside those of the input", limits.output_bytes))
        }
        Fault::TooMany => too_much(format!("it makes more than {} records of one", limits.records_per_input)),
    }
}

fn lifecycle_allowance(limits: &Limits) -> Allowance {
    Allowance { time: limits.time(), host_calls: LIFECYCLE_CALLS_MAX, host_bytes: limits.output_bytes }
}

/// The exports that are called, with the types of the contract.
struct Exports {
    lifecycle: lifecycle::Guest,
    work: Work,
    migrating: Option<migrating::Guest>,
}

fn exports(
    plugin: &Plugin,
    store: &mut Store<HostState>,
    instance: &wasmtime::component::Instance,
) -> wasmtime::Result<Exports> {
    let work = match &plugin.work {
        WorkIndices::Filter(indices) => Work::Filter(indices.load(store.as_context_mut(), instance)?),
        WorkIndices::Transform(indices) => Work::Transform(indices.load(store.as_context_mut(), instance)?),
    };
    let migrating = plugin.migrating.as_ref().map(|indices| indices.load(store.as_context_mut(), instance));
    let lifecycle = plugin.lifecycle.load(store.as_context_mut(), instance)?;
    Ok(Exports { lifecycle, work, migrating: migrating.transpose()? })
}

/// Make an instance. Whether others are in the way is told apart from all that a plugin can do.
fn instantiate(
    plugin: &Plugin,
    store: &mut Store<HostState>,
    no_room: &mut bool,
) -> wasmtime::Result<wasmtime::component::Instance> {
    let made = plugin.pre().instantiate(store.as_context_mut());
    made.inspect_err(|error| *no_room = error.is::<PoolConcurrencyLimitError>())
}

fn new_store(plugin: &Plugin, stage: &Arc<str>, limits: &Limits, metrics: &Arc<StageMetrics>) -> Store<HostState> {
    let state = HostState::new(stage.clone(), plugin.digest(), metrics.clone(), limits.clone());
    let mut store = Store::new(plugin.engine().wasmtime(), state);
    store.limiter(|state| state);
    store.set_hostcall_fuel(limits.output_bytes as usize);
    store.set_max_component_handles(limits.handles as usize);
    store.epoch_deadline_callback(|mut context| Ok(context.data_mut().tick()));
    store
}

/// Run one call, and say what ended it if it failed.
fn run<R>(
    store: &mut Store<HostState>,
    allowance: Allowance,
    state: Option<ActiveState>,
    call: impl FnOnce(&mut Store<HostState>) -> wasmtime::Result<R>,
) -> Result<R, Trapped> {
    store.data_mut().begin_call(allowance, state);
    store.set_epoch_deadline(1);
    call(store).map_err(|error| Trapped {
        trap: explain(&error, store.data()),
        hint: store.data().call().working_on.map(|index| index as usize),
    })
}

fn explain(error: &wasmtime::Error, state: &HostState) -> Trap {
    let (call, limits) = (state.call(), state.limits());
    // Not the error as a whole: that has a backtrace, with names of functions that the plugin has chosen.
    let text = error.root_cause().to_string();
    if call.timed_out {
        let message = format!("used more than {} ms of CPU time for one call", state.time_allowed().as_millis());
        return Trap { kind: TrapKind::Time, message };
    }
    if let Some(trap) = &call.refused {
        return trap.clone();
    }
    if text.contains("fuel allocated for hostcalls") {
        let message = format!("handed more than {} bytes to the host at once", limits.output_bytes);
        return Trap { kind: TrapKind::Output, message };
    }
    if text.contains("handle limit exceeded") {
        let message = format!("holds more than {} handles", limits.handles);
        return Trap { kind: TrapKind::Handles, message };
    }
    if call.memory_denied {
        let (bytes, elements) = (limits.memory_bytes, limits.table_elements);
        let message = format!("asked for more than {bytes} bytes of memory, or {elements} elements of tables");
        return Trap { kind: TrapKind::Memory, message };
    }
    let cause = error.downcast_ref::<wasmtime::Trap>().map_or(text, ToString::to_string);
    let said = call.last_error.as_deref();
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
        first_ordinal: batch.first_ordinal,
    }
}
