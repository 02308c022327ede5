//! The probes' shaders without a device, and the figures on whatever device there is.

use super::probe::{Params, Shader};
use crate::kernel::compose::Source;
use crate::translate::{Parsed, Target};
use naga::valid::{Capabilities, ValidationFlags, Validator};

macro_rules! probe {
    ($name:literal, $header:expr) => {
        Shader {
            name: $name,
            text: include_str!(concat!("../../../shaders/peak/", $name, ".wgsl")),
            header: $header,
        }
    };
}

/// Every shader with its constants.
fn shaders() -> Vec<Shader<'static>> {
    const MEMORY: &str = "const LANES = 256u;\nconst LOADS = 8u;\nconst LANE_STEP = 1u;\n";
    const LANES: &str = "const LANES = 64u;\n";
    vec![
        probe!("read", MEMORY),
        probe!("copy", MEMORY),
        probe!("write", MEMORY),
        probe!("fma", "alias T = f32;\nconst LANES = 64u;\n"),
        probe!("fma", "enable f16;\nalias T = f16;\nconst LANES = 64u;\n"),
        probe!("dot", LANES),
        probe!("nothing", LANES),
    ]
}

fn parse(shader: &Shader) -> Parsed {
    Parsed::new(Source::of(shader.compose())).unwrap_or_else(|e| panic!("{}: {e}", shader.name))
}

#[test]
fn probes_translate_to_every_backend() {
    for shader in shaders() {
        let (parsed, name) = (parse(&shader), shader.name);
        let mut validator = Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16);
        validator.validate(&parsed.module).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        for target in [Target::Spirv, Target::Msl, Target::Hlsl] {
            parsed.write(target).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}

#[test]
fn vectors_are_indexed_by_constants() {
    for shader in shaders() {
        let lines = crate::kernel::tests::variable_components(&parse(&shader));
        assert_eq!(lines, [0; 0], "{}", shader.name);
    }
}

#[test]
fn params_are_laid_out_as_in_the_shader() {
    let module = parse(&shaders()[0]).module;
    let (_, ty) = module.types.iter().find(|(_, t)| t.name.as_deref() == Some("Params")).expect("declared");
    let naga::TypeInner::Struct { members, span } = &ty.inner else { panic!("Params is a struct") };
    assert_eq!(*span as usize, size_of::<Params>());
    macro_rules! offsets {
        ($($field:ident),*) => { [$((stringify!($field), std::mem::offset_of!(Params, $field))),*] };
    }
    let ours = offsets!(iterations, group_step, iteration_step, load_step, seed, never);
    let theirs: Vec<_> =
        members.iter().map(|m| (m.name.as_deref().unwrap_or_default(), m.offset as usize)).collect();
    assert_eq!(theirs, ours);
}
