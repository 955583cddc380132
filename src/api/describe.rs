//! What a handler takes and answers, read from its signature: each type of an argument or an answer says what it means for the description of the
//! API. So the description cannot say anything else than the code, and a handler with a type that says nothing is no handler.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::access::Caller;
use super::error::ApiError;
use super::events::{STREAM, Stream};
use super::if_match::IfMatch;
use super::in_time::{SILENT, WAIT_MS_MAX};
use super::reply::{Either, Numbers, Page, Placed, Status, Versioned, Written};
use super::server::{
    Accept, Api, Body, By, Component, LastEventId, ManyRecords, NoBody, NoKeys, OnlyBy, Params, Segments, Sent,
    SentOrDefault,
};
use super::wire::{Link, NewRecord};

/// Where the shapes stand that have a name.
const SHAPES: &str = "/components/schemas";

const JSON: &str = "application/json";

/// The shapes of everything that is sent and answered. The same type may be stricter where it is answered: then every field is there.
pub(super) struct Shapes {
    sent: SchemaGenerator,
    answered: SchemaGenerator,
}

impl Shapes {
    pub(super) fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = SHAPES.into());
        let answered = settings.clone().for_serialize();
        Self { sent: settings.for_deserialize().into(), answered: answered.into() }
    }

    /// The shape of an answer.
    pub(super) fn answered<T: JsonSchema>(&mut self) -> Value {
        self.answered.subschema_for::<T>().to_value()
    }

    fn sent<T: JsonSchema>(&mut self) -> Value {
        self.sent.subschema_for::<T>().to_value()
    }

    /// All shapes that have a name; and the names that mean two things, of which there should be none.
    pub(super) fn named(mut self) -> (Map<String, Value>, Vec<String>) {
        let mut all = self.answered.take_definitions(true);
        let mut ambiguous = Vec::new();
        for (name, shape) in self.sent.take_definitions(true) {
            if all.get(&name).is_some_and(|known| *known != shape) {
                ambiguous.push(name.clone());
            }
            all.insert(name, shape);
        }
        (all, ambiguous)
    }
}

/// What is known of an operation: a method of a path.
pub(super) struct Operation<'a> {
    shapes: &'a mut Shapes,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: BTreeMap<u16, Given>,
    failures: BTreeSet<u16>,
}

/// What is answered with a status.
#[derive(Default)]
struct Given {
    /// The shapes by media type.
    content: BTreeMap<&'static str, Vec<Value>>,
    headers: Map<String, Value>,
}

impl Given {
    fn describe(self, status: u16) -> Value {
        let media = |mut shapes: Vec<Value>| match shapes.len() {
            1 => json!({"schema": shapes.remove(0)}),
            _ => json!({"schema": {"anyOf": shapes}}),
        };
        let content: Map<_, _> =
            self.content.into_iter().map(|(name, shapes)| (name.to_owned(), media(shapes))).collect();
        let mut answer = json!({"description": meaning(status)});
        if !content.is_empty() {
            answer["content"] = content.into();
        }
        if !self.headers.is_empty() {
            answer["headers"] = self.headers.into();
        }
        answer
    }
}

impl<'a> Operation<'a> {
    pub(super) fn new(shapes: &'a mut Shapes) -> Self {
        let (parameters, body, answers, failures) = Default::default();
        Self { shapes, parameters, body, answers, failures }
    }

    /// It may fail with these statuses.
    pub(super) fn fails(&mut self, statuses: &[u16]) {
        self.failures.extend(statuses);
    }

    /// A variable part of the path.
    pub(super) fn segment(&mut self, name: &str) {
        let shape = json!({"type": "string", "minLength": 1});
        self.parameters.push(json!({"name": name, "in": "path", "required": true, "schema": shape}));
    }

    /// It is answered though clusters do not answer; `asks`: or given up.
    pub(super) fn may_be_unheard(&mut self, asks: bool) {
        let what =
            "The clusters concerned that do not answer, each with since when. What is shown of them was known before.";
        let statuses: Vec<u16> = self.answers.keys().copied().collect();
        statuses.into_iter().for_each(|status| self.gives_header(status, SILENT, what));
        let is_known = self.parameters.iter().any(|known| known["name"] == "wait_ms");
        if asks && !is_known {
            let what =
                "How long to wait for a cluster that does not answer, in milliseconds; half a second without it.";
            let shape = json!({"type": "integer", "minimum": 0, "maximum": WAIT_MS_MAX, "description": what});
            self.parameter("query", "wait_ms", false, shape);
        }
    }

    /// What stands under `parameters`, `requestBody` and `responses`.
    pub(super) fn describe(self) -> Map<String, Value> {
        let mut described = Map::new();
        if !self.parameters.is_empty() {
            described.insert("parameters".to_owned(), self.parameters.into());
        }
        if let Some(body) = self.body {
            described.insert("requestBody".to_owned(), body);
        }
        let answers = self.answers.into_iter().map(|(status, given)| (status.to_string(), given.describe(status)));
        let refer = |status: u16| json!({"$ref": format!("#/components/responses/{status}")});
        let failures = self.failures.into_iter().map(|status| (status.to_string(), refer(status)));
        described.insert("responses".to_owned(), answers.chain(failures).collect::<Map<_, _>>().into());
        described
    }

    fn query<T: JsonSchema>(&mut self) {
        self.fails(&[400]);
        let mut shape = T::json_schema(&mut self.shapes.sent).to_value();
        let required = shape["required"].take();
        let is_required = |name: &str| required.as_array().is_some_and(|all| all.iter().any(|one| one == name));
        let Some(properties) = shape["properties"].as_object_mut() else { return };
        for (name, property) in std::mem::take(properties) {
            self.parameter("query", &name, is_required(&name), property);
        }
    }

    fn parameter(&mut self, place: &str, name: &str, is_required: bool, mut shape: Value) {
        let description = shape.as_object_mut().and_then(|shape| shape.remove("description"));
        // What is not given is not there: nobody can write null.
        if let Some(kinds) = shape["type"].as_array().cloned() {
            shape["type"] = kinds.into_iter().find(|kind| kind != "null").unwrap_or_default();
        }
        let mut parameter = json!({"name": name, "in": place, "required": is_required, "schema": shape});
        if let Some(description) = description {
            parameter["description"] = description;
        }
        self.parameters.push(parameter);
    }

    fn takes(&mut self, is_required: bool, content: &[(&str, Value)]) {
        self.fails(&[400, 408, 413, 415]);
        let media = |(name, shape): &(&str, Value)| ((*name).to_owned(), json!({"schema": shape}));
        let content: Map<_, _> = content.iter().map(media).collect();
        self.body = Some(json!({"required": is_required, "content": content}));
    }

    fn gives(&mut self, status: u16, media: &'static str, shape: Value) {
        self.answers.entry(status).or_default().content.entry(media).or_default().push(shape);
    }

    fn gives_header(&mut self, status: u16, name: &str, description: &str) {
        let header = json!({"description": description, "schema": {"type": "string"}});
        self.answers.entry(status).or_default().headers.insert(name.to_owned(), header);
    }
}

/// What a status means here.
pub(super) fn meaning(status: u16) -> &'static str {
    match status {
        200 => "It is done, or this is it.",
        201 => "It was made.",
        202 => "It is under way.",
        204 => "It is done.",
        400 => "The request cannot be understood, or says what cannot be.",
        401 => "It is not known who asks.",
        403 => "Whoever asks may not do this.",
        404 => "There is no such thing.",
        408 => "The body did not come in time.",
        409 => "The request makes sense, but not in the present state.",
        412 => "What the request was made for is not what there is any more.",
        413 => "The body is too large.",
        415 => "The body is said to be of a type or in an encoding that is not taken here.",
        422 => "The request is refused for what it contains.",
        429 => "There are too many requests.",
        503 => "The daemon or a cluster cannot serve now; the same request may work later.",
        _ => "",
    }
}

/// An argument of a handler.
pub(super) trait Part {
    fn describe(operation: &mut Operation<'_>);
}

/// An answer of a handler. `status` is what it has unless it says another one.
pub(super) trait Reply {
    fn describe(operation: &mut Operation<'_>, status: u16);
}

/// A handler of which everything is known. `T` are its arguments.
pub(super) trait Described<T> {
    fn describe(operation: &mut Operation<'_>);
}

macro_rules! described {
    ($($part:ident)*) => {
        impl<F, A, R, $($part),*> Described<($($part,)*)> for F
        where
            F: Fn($($part),*) -> A,
            A: Future<Output = R>,
            R: Reply,
            $($part: Part,)*
        {
            fn describe(operation: &mut Operation<'_>) {
                $($part::describe(operation);)*
                R::describe(operation, 200);
            }
        }
    };
}

described!();
described!(P1);
described!(P1 P2);
described!(P1 P2 P3);
described!(P1 P2 P3 P4);
described!(P1 P2 P3 P4 P5);

impl Part for State<Api> {
    fn describe(operation: &mut Operation<'_>) {
        operation.fails(&[503]);
    }
}

impl Part for Caller {
    fn describe(_: &mut Operation<'_>) {}
}

/// Their names stand in the path.
impl<T> Part for Segments<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.fails(&[400, 404]);
    }
}

impl<T: JsonSchema> Part for Params<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.query::<T>();
    }
}

impl Part for By {
    fn describe(operation: &mut Operation<'_>) {
        operation.query::<OnlyBy>();
    }
}

impl Part for IfMatch {
    fn describe(operation: &mut Operation<'_>) {
        operation.fails(&[400, 412]);
        let what = "The `ETag`s of the link that the change was made for, in a list; a weak one never matches. `*`, or nothing: whichever there is.";
        let tag = "(W/)?\"[^\"\\s]*\"";
        let pattern = format!("^(\\*|{tag}([ \\t]*,[ \\t]*{tag})*)$");
        let shape = json!({"type": "string", "pattern": pattern, "description": what});
        operation.parameter("header", "If-Match", false, shape);
    }
}

impl Part for LastEventId {
    fn describe(operation: &mut Operation<'_>) {
        let what = "Of a stream: the `id` of the last event that came. What happened after it comes first; all that is kept, if it is not known.";
        operation.parameter("header", "Last-Event-ID", false, json!({"type": "string", "description": what}));
    }
}

/// OpenAPI has no parameter of this name: the media types of the answer say what can be accepted.
impl Part for Accept {
    fn describe(_: &mut Operation<'_>) {}
}

impl<T: JsonSchema> Part for Sent<T> {
    fn describe(operation: &mut Operation<'_>) {
        let shape = operation.shapes.sent::<T>();
        operation.takes(true, &[(JSON, shape)]);
    }
}

impl<T: JsonSchema> Part for SentOrDefault<T> {
    fn describe(operation: &mut Operation<'_>) {
        let shape = operation.shapes.sent::<T>();
        operation.takes(false, &[(JSON, shape)]);
    }
}

impl Part for NoBody {
    fn describe(operation: &mut Operation<'_>) {
        let shape = operation.shapes.sent::<NoKeys>();
        operation.takes(false, &[(JSON, shape)]);
    }
}

impl Part for Body<ManyRecords> {
    fn describe(operation: &mut Operation<'_>) {
        let (all, one) = (operation.shapes.sent::<Vec<NewRecord>>(), operation.shapes.sent::<NewRecord>());
        // A line alone is JSON, too. No body is no record.
        operation.takes(false, &[(JSON, json!({"anyOf": [all, one]})), ("application/jsonl", one)]);
    }
}

impl Part for Body<Component> {
    fn describe(operation: &mut Operation<'_>) {
        let what = json!({"description": "A WebAssembly component."});
        operation.takes(true, &[("application/wasm", what)]);
    }
}

/// It may fail in the ways of its arguments and of its route.
impl<R: Reply> Reply for Result<R, ApiError> {
    fn describe(operation: &mut Operation<'_>, status: u16) {
        R::describe(operation, status);
    }
}

impl<T: JsonSchema> Reply for Json<T> {
    fn describe(operation: &mut Operation<'_>, status: u16) {
        let shape = operation.shapes.answered::<T>();
        operation.gives(status, JSON, shape);
    }
}

impl<T: JsonSchema> Reply for Written<T> {
    fn describe(operation: &mut Operation<'_>, status: u16) {
        Json::<T>::describe(operation, status);
    }
}

impl<const CODE: u16, R: Reply> Reply for Status<CODE, R> {
    fn describe(operation: &mut Operation<'_>, _: u16) {
        R::describe(operation, CODE);
    }
}

/// Nothing.
impl Reply for () {
    fn describe(operation: &mut Operation<'_>, status: u16) {
        operation.answers.entry(status).or_default();
    }
}

impl<A: Reply, B: Reply> Reply for Either<A, B> {
    fn describe(operation: &mut Operation<'_>, status: u16) {
        A::describe(operation, status);
        B::describe(operation, status);
    }
}

impl Reply for Versioned {
    fn describe(operation: &mut Operation<'_>, status: u16) {
        Json::<Link>::describe(operation, status);
        operation.gives_header(status, "ETag", "The version of the link's definition, if it was defined by the API.");
    }
}

impl Reply for Placed {
    fn describe(operation: &mut Operation<'_>, status: u16) {
        Versioned::describe(operation, status);
        operation.gives_header(status, "Location", "Where the link is.");
    }
}

impl<T: JsonSchema> Reply for Page<T> {
    fn describe(operation: &mut Operation<'_>, status: u16) {
        Json::<Vec<T>>::describe(operation, status);
        operation.gives_header(status, "Link", "Where the next part of the list is, if there is more (RFC 8288).");
    }
}

/// Server-sent events: the data of each is an event as JSON, as the list has it.
impl Reply for Stream {
    fn describe(operation: &mut Operation<'_>, status: u16) {
        operation.gives(status, STREAM, json!({"type": "string"}));
    }
}

impl Reply for Numbers {
    fn describe(operation: &mut Operation<'_>, status: u16) {
        let text = json!({"type": "string"});
        operation.gives(status, "text/plain", text.clone());
        operation.gives(status, "application/openmetrics-text", text);
    }
}
