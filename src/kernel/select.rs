//! Which kernel a problem gets: what a device can run, the best guess first.

use super::op;
use super::parts::lookup_memory;
use super::registry::KERNELS;
use super::types::{Candidate, Caps, Family, Kernel, MatmulOptions, Operation, Problem};
use crate::error::{Error, Result};
use crate::format::Format;

/// The first candidate for a matmul of `w` that `options` allow and `preferred` names, or else just
/// the first.
///
/// # Errors
/// [`Error::Argument`] if there is none, saying why.
pub fn choose(
    caps: &Caps,
    format: &Format,
    request: &Problem,
    options: &MatmulOptions,
    preferred: Option<&str>,
) -> Result<Candidate> {
    // Every call of a matmul comes here: kernels behind the one that is taken are not configured.
    let mut allowed = ways(caps, request).filter(|c| options.allow(c)).peekable();
    let first = allowed.peek().cloned();
    let named = preferred.and_then(|name| allowed.find(|c| c.name() == name));
    if let Some(candidate) = named.or(first) {
        return Ok(candidate);
    }
    if !request.activations.suit_codes(request.codes) {
        return Err(request.activations.refused("the weights", format));
    }
    let kernel = options.kernel.map_or("", |k| k.name);
    let activations = request.activations.name();
    Err(Error::Argument(match (options.kernel, &options.variant) {
        (Some(k), _) if k.operation != Operation::Matmul => format!("kernel {kernel} does not multiply"),
        (Some(k), _) if !k.activations.contains(&request.activations) => {
            format!("kernel {kernel} does not take {activations} activations")
        }
        (Some(_), Some(variant)) => {
            format!("kernel {kernel} has no variant `{variant}` for this device and shape")
        }
        (Some(_), None) => format!("kernel {kernel} needs more than this device has, or is allowed to use"),
        _ => format!("no kernel multiplies {} by {activations} activations on this device", format.name),
    }))
}

/// Every way to carry out a matmul, the best guess first.
pub fn candidates(caps: &Caps, request: &Problem) -> Vec<Candidate> {
    ways(caps, request).collect()
}

/// [`candidates`], each kernel configured when its turn comes.
fn ways(caps: &Caps, request: &Problem) -> impl Iterator<Item = Candidate> {
    let codes = request.activations.suit_codes(request.codes);
    let able = |k: &&&'static Kernel| {
        codes && k.operation == Operation::Matmul && k.activations.contains(&request.activations)
    };
    let mut kernels: Vec<&'static Kernel> = KERNELS.iter().filter(able).copied().collect();
    kernels.sort_by_key(|k| rank(k, caps, request));
    let configs = |kernel: &'static Kernel| {
        (kernel.configs)(caps, request).into_iter().map(move |config| Candidate { kernel, config })
    };
    kernels.into_iter().flat_map(configs).filter(|c| fits(c, caps))
}

/// The order in which kernels are guessed to be fast.
fn rank(kernel: &Kernel, caps: &Caps, request: &Problem) -> u32 {
    let wanted = if caps.software { Family::Software } else { Family::Gpu };
    let narrow = kernel.name == op::gemv::KERNEL.name;
    let suits = if request.batch <= 8 { narrow } else { !narrow };
    u32::from(kernel.family != wanted) * 4 + u32::from(!suits) * 2 + u32::from(!kernel.rounds_weights)
}

/// False if the device's limits on workgroups rule the candidate out. wgpu does not check them
/// where they depend on constants, and a driver may take them and fail.
fn fits(candidate: &Candidate, caps: &Caps) -> bool {
    let config = &candidate.config;
    config.workgroup <= caps.max_workgroup
        && config.workgroup_memory + lookup_memory(config.lookup) <= caps.max_workgroup_memory
}
