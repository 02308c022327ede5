//! Devices of a host: what it asks for, and the callbacks that stay its own.

use crate::device::{attach, attach_uncounted, host_adapter, open, pipelines};
use qmatmul::check::{activations, random_tensor};
use qmatmul::error::Error;
use qmatmul::gpu::{self, Capability, Point, TuningCache};
use qmatmul::{Options, Runtime, format, wgpu};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What a callback was called with.
type Heard = Arc<Mutex<Vec<String>>>;

/// A runtime on a host's device whose callbacks were set before, and what they hear: of a loss, and
/// of errors that no scope catches. No hook is set.
fn with_callbacks() -> (Runtime, Heard, Heard) {
    let adapter = host_adapter();
    let (device, queue) = pollster::block_on(adapter.request_device(&Default::default())).expect("a device");
    let (lost, uncaptured) = (Heard::default(), Heard::default());
    let heard = lost.clone();
    device.set_device_lost_callback(move |reason, message| {
        heard.lock().expect("no panic").push(format!("{reason:?}: {message}"));
    });
    let heard = uncaptured.clone();
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        heard.lock().expect("no panic").push(error.to_string());
    }));
    let runtime = attach_uncounted(device, queue, &adapter).expect("a plain device will do");
    (runtime, lost, uncaptured)
}

fn count(heard: &Heard) -> usize {
    heard.lock().expect("no panic").len()
}

#[test]
fn the_hosts_callback_hears_of_a_loss() {
    let _stated = pipelines(5);
    let (runtime, lost, _) = with_callbacks();
    let packed = random_tensor("w", format::Q4_0, 8, 64, 1).expect("whole blocks");
    let w = runtime.upload(&packed).expect("small");
    runtime.matmul(&w, &activations(64, 1)).expect("small");
    assert_eq!(count(&lost), 0);
    runtime.device().destroy();
    let _ = runtime.device().poll(wgpu::PollType::Poll);
    assert_eq!(count(&lost), 1, "{lost:?}");
    assert!(runtime.matmul(&w, &activations(64, 1)).is_err());
}

#[test]
fn the_hosts_handler_hears_of_errors_of_the_hosts_calls_and_of_no_others() {
    let _stated = pipelines(5);
    let (runtime, _, uncaptured) = with_callbacks();
    let packed = random_tensor("w", format::Q4_0, 8, 64, 1).expect("whole blocks");
    let w = runtime.upload(&packed).expect("small");
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = broken.clone();
    runtime.set_hook(Box::new(move |point| {
        if let Point::Compiling(text) = point
            && breaks.load(Ordering::Relaxed)
        {
            *text = text.replacen("fn main(", "fn broken( -> }", 1);
        }
    }));
    let error = runtime.matmul(&w, &activations(64, 1)).expect_err("the shader is broken");
    assert!(matches!(error, Error::Gpu { .. }), "{error}");
    assert_eq!(count(&uncaptured), 0, "{uncaptured:?}");
    broken.store(false, Ordering::Relaxed);
    let y = runtime.matmul(&w, &activations(64, 1)).expect("usable again");
    let _ = runtime.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some("impossible"),
        size: 16,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE,
        mapped_at_creation: false,
    });
    assert_eq!(count(&uncaptured), 1);
    assert!(uncaptured.lock().expect("no panic")[0].contains("impossible"), "{uncaptured:?}");
    assert_eq!(runtime.matmul(&w, &activations(64, 1)).expect("the host's error is the host's"), y);
}

/// A host that asks for what it is told to gets what the runtime opens for itself.
#[test]
fn what_a_host_is_told_to_ask_for_is_what_the_runtime_asks_for() {
    let _stated = pipelines(5);
    let adapter = host_adapter();
    let experimental = gpu::wanted_experimental_features(&adapter);
    assert!((gpu::wanted_features(&adapter) & wgpu::Features::all_experimental_mask()).is_empty());
    assert!(wgpu::Features::all_experimental_mask().contains(experimental));
    let at = qmatmul::gpu::adapters().iter().position(|a| a.name == adapter.get_info().name);
    for with_experimental in [false, true] {
        let mut descriptor = wgpu::DeviceDescriptor {
            required_features: gpu::wanted_features(&adapter),
            required_limits: gpu::wanted_limits(&adapter),
            ..Default::default()
        };
        if with_experimental {
            descriptor.required_features |= experimental;
            // SAFETY: the runtime's shaders alone use it, after a probe.
            descriptor.experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let (device, queue) =
            pollster::block_on(adapter.request_device(&descriptor)).expect("all of it is there");
        let host = attach(device, queue, &adapter).expect("a device like our own");
        let own = open(&Options {
            select: gpu::Select::Number(at.expect("it is listed")),
            without: if with_experimental { vec![] } else { vec![Capability::Cooperative] },
            tuning: TuningCache::Off,
            ..Options::default()
        });
        assert_eq!(format!("{:?}", host.caps()), format!("{:?}", own.caps()));
        assert_eq!(host.device().features(), own.device().features());
    }
}

#[test]
fn handles_print_themselves_shortly() {
    let _stated = pipelines(5);
    let (runtime, _, _) = with_callbacks();
    let packed = random_tensor("blk.0.ffn_up", format::Q4_0, 256, 1024, 1).expect("whole blocks");
    let layer = runtime.upload_layer(&qmatmul::Linear::new(packed)).expect("small");
    let texts = [format!("{runtime:?}"), format!("{layer:?}"), format!("{:?}", layer.weight())];
    for (text, part) in texts.iter().zip([runtime.adapter().name.as_str(), "rank: 0", "blk.0.ffn_up"]) {
        assert!(text.len() < 400 && text.contains(part), "{text}");
    }
    assert!(
        texts[2].contains("256") && texts[2].contains("1024") && texts[2].contains("Q4_0"),
        "{}",
        texts[2]
    );
    let mut progress = |_, _| ();
    let upload = gpu::Upload { progress: Some(&mut progress), ..Default::default() };
    assert_eq!(format!("{upload:?}"), "Upload { experts: 1, progress: true, allow_non_finite: false }");
}
