// A chunk of 32 activations, for kernels that make codes of it: one invocation takes one.

struct Params {
    cols: u32,      // k
    chunk_end: u32, // chunks of 32 features
    x_offset: u32,  // element of x where token 0 starts
    x_stride: u32,  // elements from one token to the next
}

@group(0) @binding(0) var<uniform> params: Params;

struct Chunk {
    v: array<vec4<f32>, 8>,
    top: u32,  // the largest magnitude, as bits
}

// Activation `at` of a column; zero behind the last.
fn element(first: u32, at: u32) -> f32 {
    return select(0.0, input(first + min(at, params.cols - 1u)), at < params.cols);
}

fn read_chunk(token: u32, chunk: u32) -> Chunk {
    let first = params.x_offset + token * params.x_stride;
    var v: array<vec4<f32>, 8>;
    var top = vec4<u32>(0u);
    for (var j = 0u; j < 8u; j++) {
        let at = chunk * 32u + 4u * j;
        v[j] = vec4<f32>(element(first, at), element(first, at + 1u), element(first, at + 2u), element(first, at + 3u));
        top = max(top, bitcast<vec4<u32>>(v[j]) & vec4<u32>(0x7fffffffu));
    }
    return Chunk(v, max(max(top.x, top.y), max(top.z, top.w)));
}
