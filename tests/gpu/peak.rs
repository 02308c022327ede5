//! The ceilings that `Runtime::peak` measures: on both families' shapes, both clocks, and WebGPU's
//! default limits.

use crate::device::{first, open, pipelines};
use qmatmul::gpu::Peak;
use qmatmul::{Options, Runtime, wgpu};

/// Figures that any device can have.
fn sane(peak: &Peak) {
    for b in &peak.bandwidth {
        assert!(b.gb_per_s.is_finite() && b.gb_per_s > 0.01 && b.gb_per_s < 1e6, "{b:?}");
    }
    for a in &peak.arithmetic {
        assert!(a.tera_ops.is_finite() && a.tera_ops > 1e-4 && a.tera_ops < 1e5, "{a:?}");
    }
    let kinds: Vec<_> = peak.arithmetic.iter().map(|a| a.kind).collect();
    assert!(kinds.contains(&"f32 fma") && kinds.contains(&"int8 dot"), "{kinds:?}");
    for seconds in [peak.dispatch_seconds, peak.submit_seconds, peak.readback_seconds] {
        assert!(seconds > 0.0 && seconds < 1.0, "{peak:?}");
    }
    for speed in [peak.upload_gb_per_s, peak.host_copy_gb_per_s, peak.copy_gb_per_s(), peak.read_gb_per_s()] {
        assert!(speed > 0.01 && speed < 1e5, "{peak:?}");
    }
}

/// A read that a compiler leaves out takes as long for much as for little.
fn time_grows_with_size(peak: &Peak, operation: &str) {
    let of: Vec<_> = peak.bandwidth.iter().filter(|b| b.operation == operation).collect();
    let seconds = |i: usize| of[i].bytes as f64 / of[i].gb_per_s;
    let (first, last) = (1, of.len() - 1);
    let growth = of[last].bytes as f64 / of[first].bytes as f64;
    assert!(growth >= 16.0, "sizes go far: {of:?}");
    assert!(seconds(last) > growth / 8.0 * seconds(first), "{of:?}");
}

#[test]
fn figures_on_both_families() {
    let _stated = pipelines(5);
    for &software in first(&[true, false], 1) {
        // Small enough to be quick, large enough to see the time grow.
        let options = Options { software: Some(software), max_binding: Some(64 << 20), ..Options::default() };
        let peak = open(&options).peak(0.01).expect("the device works");
        sane(&peak);
        for operation in ["read", "copy", "write"] {
            time_grows_with_size(&peak, operation);
        }
    }
}

/// Nothing but what WebGPU promises: small limits, no timestamps, no subgroups.
#[test]
fn figures_on_a_bare_device() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = pollster::block_on(instance.request_adapter(&Default::default())).expect("an adapter");
    let (device, queue) =
        pollster::block_on(adapter.request_device(&Default::default())).expect("WebGPU's defaults");
    let peak = Runtime::with_device(device, queue, &adapter, &Options::default()).and_then(|r| r.peak(0.0));
    let peak = peak.expect("the device works");
    sane(&peak);
    assert!(peak.bandwidth.iter().all(|b| b.bytes <= 128 << 20));
    assert!(peak.arithmetic.iter().all(|a| a.kind != "f16 fma"), "not asked for");
}

#[test]
fn small_bindings_and_senseless_times() {
    let _stated = pipelines(5);
    let runtime = open(&Options { max_binding: Some(1 << 20), max_groups: Some(4096), ..Options::default() });
    for seconds in [f64::NAN, f64::NEG_INFINITY, -1.0] {
        let peak = runtime.peak(seconds).expect("as 0 seconds");
        assert!(peak.bandwidth.len() == 3 && peak.bandwidth.iter().all(|b| b.bytes == 1 << 20), "{peak:?}");
    }
}
