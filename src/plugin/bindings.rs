//! The contract as Rust types, made from `wit/`.
//!
//! One world that includes all others gives one set of types; each interface is then looked up in a component by itself.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

wasmtime::component::bindgen!({
    path: ["wit/0.1.0"],
    inline: "
        package tidegate:every;
        world every {
            include tidegate:plugin/filter@0.1.0;
            include tidegate:plugin/transform@0.1.0;
            include tidegate:plugin/stateful-filter@0.1.0;
            include tidegate:plugin/stateful-transform@0.1.0;
        }
    ",
    world: "tidegate:every/every",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { default: trappable },
});

pub(super) use self::tidegate::plugin::{host, state, types};
pub(super) use exports::tidegate::plugin::{filtering, lifecycle, migrating, transforming};
