//! What wit-bindgen makes of the contract in `wit/`.
//!
//! One module for each exported interface, because the macros that export them are made in the root of this crate,
//! and two worlds that both export `lifecycle` would make the same macro twice. The worlds here are parts of the
//! contract's worlds: a plugin that exports `lifecycle` and `filtering` is of the world `filter`.

#![allow(missing_docs, unreachable_pub, reason = "generated")]

pub mod lifecycle {
    wit_bindgen::generate!({
        path: "../../wit/0.1.0",
        inline: "
            package tidegate:sdk;
            world lifecycle-part {
                import tidegate:plugin/host@0.1.0;
                export tidegate:plugin/lifecycle@0.1.0;
            }
        ",
        world: "tidegate:sdk/lifecycle-part",
        pub_export_macro: true,
        generate_all,
        generate_unused_types: true,
        export_macro_name: "export_lifecycle",
        default_bindings_module: "tidegate_plugin::bindings::lifecycle",
    });
}

pub mod filtering {
    wit_bindgen::generate!({
        path: "../../wit/0.1.0",
        inline: "
            package tidegate:sdk;
            world filtering-part {
                export tidegate:plugin/filtering@0.1.0;
            }
        ",
        world: "tidegate:sdk/filtering-part",
        with: { "tidegate:plugin/types@0.1.0": crate::bindings::lifecycle::tidegate::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_filtering",
        default_bindings_module: "tidegate_plugin::bindings::filtering",
    });
}

pub mod transforming {
    wit_bindgen::generate!({
        path: "../../wit/0.1.0",
        inline: "
            package tidegate:sdk;
            world transforming-part {
                export tidegate:plugin/transforming@0.1.0;
            }
        ",
        world: "tidegate:sdk/transforming-part",
        with: { "tidegate:plugin/types@0.1.0": crate::bindings::lifecycle::tidegate::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_transforming",
        default_bindings_module: "tidegate_plugin::bindings::transforming",
    });
}

pub mod migrating {
    wit_bindgen::generate!({
        path: "../../wit/0.1.0",
        inline: "
            package tidegate:sdk;
            world migrating-part {
                export tidegate:plugin/migrating@0.1.0;
            }
        ",
        world: "tidegate:sdk/migrating-part",
        pub_export_macro: true,
        export_macro_name: "export_migrating",
        default_bindings_module: "tidegate_plugin::bindings::migrating",
    });
}

/// A plugin that never calls these does not import them: only what is called is linked.
pub mod remembering {
    wit_bindgen::generate!({
        path: "../../wit/0.1.0",
        inline: "
            package tidegate:sdk;
            world remembering-part {
                import tidegate:plugin/state@0.1.0;
            }
        ",
        world: "tidegate:sdk/remembering-part",
        generate_all,
    });
}

pub use lifecycle::tidegate::plugin::{host, types};
pub use remembering::tidegate::plugin::state;
