//! Modules as other tools wrote them, decoded and multiplied on the CPU.

use crate::hub_cases::Case;
use qmatmul::file::gguf_write::{self, NewTensor};
use qmatmul::file::{DType, Model, OpenOptions, QuantizeOptions, quantize};
use qmatmul::format::{self, Recipe};
use qmatmul::kernel::{Activations, reference};

#[test]
fn every_module_decodes_to_the_tools_own_numbers() {
    let cases = Case::all();
    assert!(cases.len() >= 35, "only {} cases", cases.len());
    let mut failures = vec![];
    for case in &cases {
        let result = std::panic::catch_unwind(|| check(case));
        failures.extend(result.err().map(|_| case.name.clone()));
    }
    assert!(failures.is_empty(), "{failures:?}");
}

fn check(case: &Case) {
    match (case.refused(), case.packed()) {
        (Some(name), Err(error)) => assert!(error.to_string().contains(name), "{}: {error}", case.name),
        (Some(name), Ok(_)) => panic!("{}: it opened, a refusal with `{name}` was wanted", case.name),
        (None, Err(error)) => panic!("{}: {error}", case.name),
        (None, Ok(packed)) if case.expected.has("w") => case.check_weights(&packed.dequantize()),
        (None, Ok(_)) => {}
    }
}

/// The products that some tools gave, bias included: within what their halves leave.
#[test]
fn products_are_those_of_the_tools() {
    for case in Case::all().iter().filter(|case| case.expected.has("y") && case.refused().is_none()) {
        let model = case.model();
        let info = model.find(case.tensor()).expect("its weight");
        let linear = model.linear(info).expect("its parts");
        let (x, want) = (case.expected.f32s("x"), case.expected.f32s("y"));
        let matrices = info.shape[..info.shape.len() - 2].iter().product::<u64>() as usize;
        let y = reference::linear(&linear, &x, Activations::F32).expect("shapes fit");
        let (k, m) = (info.cols() as usize, info.rows() as usize);
        let (n, rows) = (x.len() / k, m / matrices);
        // y of experts is [expert, n, rows].
        let got = (0..matrices).flat_map(|e| (0..n).map(move |i| (e, i)));
        let got: Vec<f64> = got.flat_map(|(e, i)| y[i * m + e * rows..][..rows].to_vec()).collect();
        assert_eq!(got.len(), want.len(), "{}", case.name);
        let error: f64 = got.iter().zip(&want).map(|(a, b)| (a - f64::from(*b)).powi(2)).sum();
        let norm: f64 = want.iter().map(|b| f64::from(*b).powi(2)).sum();
        assert!((error / norm).sqrt() < 2e-3, "{}: {}", case.name, (error / norm).sqrt());
    }
}

/// All four layers of a Conv1D, none of which is multiplied as it lies.
#[test]
fn conv1d_is_multiplied_as_it_is_meant() {
    let case = Case::all().into_iter().find(|case| case.name == "gpt2-conv1d").expect("the case");
    let model = case.model();
    for name in ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"] {
        let info = model.find(&format!("transformer.h.0.{name}.weight")).expect("its weight");
        let (x, want) = (case.expected.f32s(&format!("x.{name}")), case.expected.f32s(&format!("y.{name}")));
        let linear = model.linear(info).expect("its bias fits");
        let got = reference::linear(&linear, &x, Activations::F32).expect("shapes fit");
        let error = got.iter().zip(&want).map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max);
        assert!(error < 1e-5, "{name}: {error}");
    }
}

/// A scale beside a weight stays there, whether that is encoded or copied.
#[test]
fn quantizing_a_gguf_keeps_scales_of_weights() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (from, to) = (dir.path().join("from.gguf"), dir.path().join("to.gguf"));
    let values: Vec<f32> = (0..2048).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0).collect();
    let halves: Vec<u8> = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
    let tensor = |name: &str, format, shape: &[u64]| NewTensor {
        name: name.into(),
        dtype: DType::Supported(format),
        shape: shape.to_vec(),
    };
    let new = [
        tensor("blk.0.attn_k.weight", format::F16, &[32, 64]),
        tensor("blk.0.attn_k.scale", format::F32, &[1]),
        tensor("blk.0.ffn_gate_inp.weight", format::F16, &[32, 64]),
        tensor("blk.0.ffn_gate_inp.scale", format::F32, &[1]),
    ];
    let mut entries = gguf_write::Entries::new();
    entries.set_str("general.architecture", "llama");
    gguf_write::write(from.as_path(), &entries, &new, |i, sink| match i % 2 {
        0 => sink.put(&halves),
        _ => sink.put(&0.25f32.to_le_bytes()),
    })
    .expect("room");
    let open = |path: &std::path::Path| Model::open(path, &OpenOptions { mmap: false }).expect("valid");
    let (recipe, options) =
        (Recipe::new(format::Q8_0), QuantizeOptions { allow_requantize: true, ..QuantizeOptions::default() });
    quantize(&open(&from), to.as_path(), &recipe, &options, |_, _| ()).expect("one of them can be");
    let model = open(&to);
    let names: Vec<_> = model.tensors().iter().map(|t| (&*t.name, t.dtype.name())).collect();
    assert_eq!(names, [("blk.0.attn_k.weight", "Q8_0"), ("blk.0.ffn_gate_inp.weight", "F16")]);
    for (info, bound) in model.tensors().iter().zip([2e-3, 0.0]) {
        let got = model.tensor(info).expect("valid").dequantize();
        let error = got.iter().zip(&values).map(|(a, b)| (a - b * 0.25).abs()).fold(0.0, f32::max);
        assert!(error <= bound, "{}: {error}", info.name);
    }
    assert!(model.tensors().iter().all(|info| model.parts(info).len() == 2), "their scales lie beside them");
}
