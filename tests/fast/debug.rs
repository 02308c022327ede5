//! What public types print of themselves: what they are, not what they hold.

use qmatmul::check::random_tensor;
use qmatmul::file::{Model, OpenOptions};
use qmatmul::{Linear, Lora, format};

#[test]
fn weights_print_a_name_a_shape_and_a_format() {
    let packed = random_tensor("blk.0.ffn_up", format::Q4_0, 64, 1024, 1).expect("whole blocks");
    let text = format!("{packed:?}");
    assert_eq!(text, "PackedTensor { name: \"blk.0.ffn_up\", rows: 64, cols: 1024, format: Q4_0, .. }");
    let parts = format!("{:?}", packed.parts());
    assert!(parts.contains("bytes: 36864") && parts.len() < 200, "{parts}");
    let f32s = |name: &str, m, k| random_tensor(name, format::F32, m, k, 1).expect("any shape");
    let lora = Lora::new(f32s("a", 8, 1024), f32s("b", 64, 8), 1.0).expect("rank 8");
    let layer = format!("{:?}", Linear::new(packed).with_adapter(lora).expect("it fits"));
    assert!(layer.contains("scale: 1.0") && layer.len() < 500, "{layer}");
}

#[test]
fn models_print_a_path_and_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.safetensors");
    qmatmul::file::write_f32(&path, "x", &[100, 100], &[1.0; 10_000]).expect("writable");
    for mmap in [false, true] {
        let options = OpenOptions { mmap };
        let text = format!("{:?}", Model::open(&path, &options).expect("just written"));
        assert!(text.contains("tensors: 1") && text.contains("x.safetensors"), "{text}");
        assert!(text.len() < 200 + path.as_os_str().len(), "{text}");
    }
}
