//! What naga makes of a composed shader for each backend: SPIR-V, Metal's and DirectX's languages.
//!
//! wgpu does the same when it compiles a pipeline; here it is for people and for tests on machines without that backend.

use crate::error::{Error, Result};
use crate::kernel::compose::Source;
use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, SubgroupOperationSet, ValidationFlags, Validator};

/// A language to translate into.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub enum Target {
    /// As composed.
    Wgsl,
    /// SPIR-V 1.3, little-endian words.
    Spirv,
    /// Metal Shading Language 3.1.
    Msl,
    /// HLSL for shader model 6.2.
    Hlsl,
}

/// The composed shader in another language.
///
/// # Errors
/// [`Error::Gpu`] with the file and line below `shaders/` that naga complains about.
pub fn translate(source: &Source, target: Target) -> Result<Vec<u8>> {
    if target == Target::Wgsl {
        return Ok(source.text.clone().into_bytes());
    }
    let (module, info) = validate(source)?;
    let fail = |message: String| Error::Gpu { doing: format!("translating to {target:?}"), message };
    match target {
        Target::Wgsl => unreachable!("returned above"),
        Target::Spirv => {
            let options = spv::Options { lang_version: (1, 3), ..Default::default() };
            let words = spv::write_vec(&module, &info, &options, None).map_err(|e| fail(e.to_string()))?;
            Ok(words.iter().flat_map(|w| w.to_le_bytes()).collect())
        }
        Target::Msl => {
            let options =
                msl::Options { lang_version: (3, 1), fake_missing_bindings: true, ..Default::default() };
            let (text, _) = msl::write_string(&module, &info, &options, &Default::default())
                .map_err(|e| fail(e.to_string()))?;
            Ok(text.into_bytes())
        }
        Target::Hlsl => {
            let options = hlsl::Options {
                shader_model: hlsl::ShaderModel::V6_2,
                fake_missing_bindings: true,
                ..Default::default()
            };
            let pipeline = Default::default();
            let mut text = String::new();
            hlsl::Writer::new(&mut text, &options, &pipeline)
                .write(&module, &info, None)
                .map_err(|e| fail(e.to_string()))?;
            Ok(text.into_bytes())
        }
    }
}

/// Parses and validates a composed shader.
///
/// # Errors
/// As [`translate`].
pub fn validate(source: &Source) -> Result<(naga::Module, ModuleInfo)> {
    let module = naga::front::wgsl::parse_str(&source.text)
        .map_err(|e| located(source, e.location(&source.text).map(|l| l.line_number), e.message()))?;
    let capabilities = Capabilities::SUBGROUP
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_INT64
        | Capabilities::COOPERATIVE_MATRIX;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|e| {
        let line = e.location(&source.text).map(|l| l.line_number);
        located(source, line, &e.emit_to_string(&source.text))
    })?;
    Ok((module, info))
}

fn located(source: &Source, line: Option<u32>, message: &str) -> Error {
    let doing = match line.map(|line| source.locate(line as usize)) {
        Some((path, line)) => format!("{path}:{line}"),
        None => "composed shader".into(),
    };
    Error::Gpu { doing, message: message.into() }
}
