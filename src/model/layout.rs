//! Which layout a link has: the form of what its target keeps of it (what is known of the link, checkpoints, state).
//!
//! | layout | since | what is new |
//! |---|---|---|
//! | 1 | 0.1.0 | |
//! | 2 | 0.1.0 | lanes have a generation, so that their number can change |
//! | 3 | 0.1.0 | the target can have taken the source's place |
//!
//! A link keeps its layout until a person raises it: daemons of two versions share a link as long as the older one knows its layout.

/// The newest layout that this program knows. A link that is new has it, unless the daemon is set to an older one.
pub const LAYOUT_NEWEST: u32 = 3;

/// The oldest layout there is, and that of whoever says nothing about it.
pub const LAYOUT_OLDEST: u32 = 1;

/// The first layout in which lanes have a generation.
pub const LAYOUT_OF_GENERATIONS: u32 = 2;

/// The first layout in which the target can have taken the source's place.
pub const LAYOUT_OF_FAILOVER: u32 = 3;

/// The generation of the lanes that a link begins with.
pub const FIRST_GENERATION: u32 = 1;
