// What kernels take of a decoder whose weights are numbers without a scale.

fn weights_of(r: Raw, chunk: u32) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        quad_values(r, 0u), quad_values(r, 1u), quad_values(r, 2u), quad_values(r, 3u),
        quad_values(r, 4u), quad_values(r, 5u), quad_values(r, 6u), quad_values(r, 7u));
}
