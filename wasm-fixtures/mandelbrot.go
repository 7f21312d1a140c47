package wasmfixtures

// The image is 192 x 192 pixels of 2^-11, one byte each.
const (
	imageSide  = 192
	imageSteps = 255
)

// fixed is a number with 28 bits behind the point. Products round down. Fixed
// point rather than floating: compilers may fuse a*b+c into one rounding on
// some machines, and the images would differ.
type fixed int64

const one fixed = 1 << 28

func (a fixed) times(b fixed) fixed { return a * b >> 28 } // below 2^4 each, so that the product fits

// sights are places at the edge of the set, in units of 2^-12.
var sights = [8][2]fixed{
	{-3072, 410}, {1126, 41}, {-5120, 164}, {-655, 4219},
	{-369, 2662}, {-7250, 0}, {1516, 1475}, {-2171, 2130},
}

// mandelbrot draws the image whose middle the nonce gives.
func mandelbrot(nonce []byte) []byte {
	at := place(nonce)
	sight := sights[at%8]
	const unit, pixel, half = one >> 12, one >> 11, 1 << 23
	left := sight[0]*unit + fixed(at>>8&0xffffff) - half - imageSide/2*pixel
	top := sight[1]*unit + fixed(at>>32&0xffffff) - half - imageSide/2*pixel
	image := make([]byte, 0, imageSide*imageSide)
	for y := range fixed(imageSide) {
		for x := range fixed(imageSide) {
			image = append(image, escape(left+x*pixel, top+y*pixel))
		}
	}
	return image
}

// escape counts the steps of z = z^2 + c until |z| > 2.
func escape(re, im fixed) byte {
	var x, y fixed
	for n := range byte(imageSteps) {
		xx, yy := x.times(x), y.times(y)
		if xx+yy > 4*one {
			return n
		}
		x, y = xx-yy+re, (2*x).times(y)+im
	}
	return imageSteps
}
