// Results are times silu(gate) = gate / (1 + exp(-gate)), once all of k is summed.

@group(0) @binding(9) var<storage, read> gate: array<f32>;  // [n, m]

fn finished(sum: f32, col: u32, row: u32) -> f32 {
    if (params.finish == 0u) {
        return sum;
    }
    let g = gate[params.gate_offset + col * params.gate_stride + row];
    return sum * (g / (1.0 + exp(-g)));
}
