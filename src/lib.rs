//! Tidegate replicates streams of records between clusters, exactly once, with WebAssembly plugins in the middle.
//!
//! The rooms, in reading order. Each opens with what it is for and what it guarantees; `ARCHITECTURE.md` has the
//! whole picture, and `tests/it/house.rs` keeps the table of which room may use which.
//!
//! | room | what it is for |
//! |---|---|
//! | [`model`] | the nouns: batch, checkpoint, digest, ids |
//! | [`files`] | how files are opened, and how our own are made |
//! | [`background`] | threads whose work always ends in a state with a name |
//! | [`config`] | TOML text to validated settings, every error at once |
//! | [`plugin`] | the WebAssembly host: compile, check, limit, call |
//! | [`store`] | the embedded durable store |
//! | [`connector`] | sources and sinks, and the clusters behind them |
//! | [`import`] | configurations of other programs, turned into ours |
//! | [`link`] | the data plane: lanes, revisions, swaps |
//! | [`api`] | the REST API |
//! | [`cli`] | the command line |
//! | [`daemon`] | puts the rooms together |

pub mod api;
pub mod background;
pub mod cli;
pub mod config;
pub mod connector;
pub mod daemon;
pub mod files;
pub mod import;
pub mod link;
pub mod model;
pub mod plugin;
pub mod store;
