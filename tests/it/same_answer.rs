//! What a plugin answers depends on no machine: each instruction that processors may carry out in different ways does what the specification
//! calls deterministic, and nothing is shared between threads.

use std::sync::Arc;
use std::time::Duration;

use tidegate::model::{BatchBuilder, Limits};
use tidegate::plugin::PluginEngine;

use crate::template::{Template, verdicts};

/// Zeros of memory, so that the compiler cannot know what is computed.
const ZERO: &str = "(i32.const 70000)";

/// Instructions, each with the bits that must come out.
fn instructions() -> Vec<(&'static str, String, u32)> {
    let vector = |text: &str| format!("(v128.or (v128.const {text}) (v128.load {ZERO}))");
    let bytes = |byte: &str| vector(&format!("i8x16 {}", [byte; 16].join(" ")));
    let floats = |float: &str| vector(&format!("f32x4 {}", [float; 4].join(" ")));
    let lane = |vector: String| format!("(i32x4.extract_lane 0 {vector})");
    let high = |double: String| format!("(i32.wrap_i64 (i64.shr_u (i64.reinterpret_f64 {double}) (i64.const 32)))");
    let (zero32, zero64) = (format!("(f32.load {ZERO})"), format!("(f64.load {ZERO})"));
    let noted = format!("(f64.reinterpret_i64 (i64.or (i64.const 0xfff8000000000123) (i64.load {ZERO})))");
    vec![
        ("f32.div", format!("(i32.reinterpret_f32 (f32.div {zero32} {zero32}))"), 0x7fc0_0000),
        ("f64.div", high(format!("(f64.div {zero64} {zero64})")), 0x7ff8_0000),
        ("f64.add of another NaN", high(format!("(f64.add {noted} (f64.const 1))")), 0x7ff8_0000),
        ("f32x4.div", lane(format!("(f32x4.div (v128.load {ZERO}) (v128.load {ZERO}))")), 0x7fc0_0000),
        ("relaxed_swizzle", lane(format!("(i8x16.relaxed_swizzle {} {})", bytes("7"), bytes("16"))), 0),
        ("relaxed_trunc of NaN", lane(format!("(i32x4.relaxed_trunc_f32x4_s {})", floats("nan"))), 0),
        ("relaxed_trunc", lane(format!("(i32x4.relaxed_trunc_f32x4_s {})", floats("3e9"))), 0x7fff_ffff),
        (
            "relaxed_madd",
            // Rounded once: 2^-24. Rounded twice: 0.
            lane(format!("(f32x4.relaxed_madd {0} {0} {1})", floats("0x1.001p0"), floats("-0x1.002p0"))),
            0x3380_0000,
        ),
        (
            "relaxed_laneselect",
            lane(format!("(i8x16.relaxed_laneselect {} {} {})", bytes("0xff"), bytes("0"), bytes("0x0f"))),
            0x0f0f_0f0f,
        ),
        ("relaxed_min", lane(format!("(f32x4.relaxed_min {} {})", floats("nan"), floats("1"))), 0x7fc0_0000),
        (
            "relaxed_q15mulr",
            lane(format!("(i16x8.relaxed_q15mulr_s {0} {0})", vector("i16x8 -32768 -32768 0 0 0 0 0 0"))),
            0x7fff_7fff,
        ),
        (
            "relaxed_dot",
            lane(format!("(i16x8.relaxed_dot_i8x16_i7x16_s {} {})", bytes("1"), bytes("0x81"))),
            // Twice -127 in each half.
            0xff02_ff02,
        ),
    ]
}

#[test]
fn what_processors_do_in_different_ways_is_done_in_one() {
    let instructions = instructions();
    let body: Vec<String> = instructions
        .iter()
        .enumerate()
        .map(|(index, (_, expression, bits))| {
            format!("(i32.store8 (i32.const {}) (i32.eq {expression} (i32.const {bits})))", 2048 + index)
        })
        .collect();
    let count = instructions.len() as u32;
    let plugin = Template::filter().work(format!("{} {}", body.join(" "), verdicts([2048, count, 0, 0]))).bytes();
    let engine = PluginEngine::new(None).expect("an engine");
    let plugin = engine.load(&plugin).expect("a plugin");
    let instance = plugin.configure(&"s".into(), "{}", &Limits::default(), &Arc::default()).expect("configured");
    let mut builder = BatchBuilder::new();
    (0..i64::from(count)).for_each(|offset| builder.push(offset, 0, None, None, []));
    let batch = builder.finish("t", 0);
    let (_, verdict) = instance.call(&batch, Duration::from_secs(10), None).expect("an answer");
    let kept = verdict.apply(batch).batch.offsets;
    let is_wrong = |(index, _): &(usize, &(&str, String, u32))| !kept.contains(&(*index as i64));
    let wrong: Vec<_> = instructions.iter().enumerate().filter(is_wrong).map(|(_, it)| it.0).collect();
    assert!(wrong.is_empty(), "these depend on the processor: {wrong:?}");
}

#[test]
fn nothing_is_shared_between_threads() {
    let engine = PluginEngine::new(None).expect("an engine");
    for core in [
        "(memory $shared 1 1 shared)",
        "(func (drop (i32.atomic.load (i32.const 0))))",
        "(func (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1))))",
    ] {
        let refused = engine.load(&Template::filter().with("core", core).bytes());
        assert!(refused.is_err(), "{core} is taken");
    }
    assert!(engine.load(&Template::filter().bytes()).is_ok());
}
