// An image of the Mandelbrot set, 192 x 192, one byte a pixel: after how many
// steps (255 at most) the point has left the circle of radius 2. The nonce
// gives the place: one of eight at the edge of the set, moved by up to 1/32 in
// both directions. All numbers are fixed point with 28 bits behind the point,
// products rounded down, so that every machine draws the same image.
#include "task.h"

#define SIDE 192
#define STEPS 255
#define POINT 28
#define ONE ((i64)1 << POINT)
#define PIXEL (ONE >> 11) // the image is 0.09375 wide

// In units of 2^-12: -0.75+0.1i, 0.275+0.01i, -1.25+0.04i, -0.16+1.03i,
// -0.09+0.65i, -1.77+0.0i, 0.37+0.36i, -0.53+0.52i.
static const i64 PLACES[8][2] = {
	{-3072, 410}, {1126, 41}, {-5120, 164}, {-655, 4219},
	{-369, 2662}, {-7250, 0}, {1516, 1475}, {-2171, 2130},
};

static u8 steps(i64 cx, i64 cy)
{
	i64 x = 0, y = 0;
	for (u32 n = 0; n < STEPS; n++) {
		i64 xx = x * x >> POINT, yy = y * y >> POINT;
		if (xx + yy > 4 * ONE)
			return (u8)n;
		y = (2 * x * y >> POINT) + cy;
		x = xx - yy + cx;
	}
	return STEPS;
}

static void task(const u8 *nonce, u32 length)
{
	static u8 image[SIDE * SIDE];
	u64 at = place(nonce, length);
	const i64 *near = PLACES[at & 7];
	i64 left = near[0] * (ONE >> 12) + (i64)(at >> 8 & 0xffffff) - (1 << 23) - SIDE / 2 * PIXEL;
	i64 top = near[1] * (ONE >> 12) + (i64)(at >> 32 & 0xffffff) - (1 << 23) - SIDE / 2 * PIXEL;
	for (u32 row = 0; row < SIDE; row++)
		for (u32 column = 0; column < SIDE; column++)
			image[row * SIDE + column] = steps(left + column * PIXEL, top + row * PIXEL);
	answer(image, sizeof image);
}
