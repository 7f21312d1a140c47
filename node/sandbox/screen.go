package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// Bounds on what a module may declare. A few bytes can declare billions of
// elements, and compilers allocate before they look further: what a module
// declares must be in proportion to its size. The numbers follow the
// JavaScript API's implementation limits
// (https://webassembly.github.io/spec/js-api/#limits) or are lower.
const (
	maxTypes      = 10_000
	maxParams     = 1_000
	maxElements   = 1 << 20 // of any other vector
	maxLocals     = 50_000  // of one function
	maxAllLocals  = 1 << 20 // of a module
	maxTables     = 16
	maxTableItems = 100_000 // of one table; 8 bytes each
	maxSegments   = 100_000 // of data
	// maxProgram is how many bytes all sections have together, but for data and
	// custom ones. Of each of these bytes a compiler makes some ten, and up to a
	// hundred (an export has a name, a type and places in tables); data it copies.
	maxProgram = 1 << 20
)

// header is the magic number and the version of WebAssembly's binary format.
const header = "\x00asm\x01\x00\x00\x00"

// Section IDs (https://webassembly.github.io/spec/core/binary/modules.html).
const (
	customSection = iota
	typeSection
	importSection
	functionSection
	tableSection
	memorySection
	globalSection
	exportSection
	startSection
	elementSection
	codeSection
	dataSection
	dataCountSection
)

// imported is one import of a module.
type imported struct{ module, name string }

func (i imported) String() string { return i.module + "." + i.name }

// shape is what the screen learns of a module.
type shape struct {
	imports []imported
	pages   uint32 // of memory at the start, 64 KiB each
	cost    uint64 // of compiling it, estimated; see maxCompileCost
}

// screen walks a module before any compiler sees it. It fails on what is not
// WebAssembly and on what declares too much. The clean module is the same
// without custom sections (names and debug information are a stranger's data
// structures too), and with tables that cannot grow over maxTableItems.
func screen(module []byte) (clean []byte, _ shape, _ error) {
	if !bytes.HasPrefix(module, []byte(header[:4])) {
		return nil, shape{}, fmt.Errorf("%w: it is not WebAssembly (no magic number)", errModule)
	}
	if !bytes.HasPrefix(module, []byte(header)) {
		return nil, shape{}, fmt.Errorf("%w: it is not WebAssembly version 1", errModule)
	}
	s := screener{clean: make([]byte, 0, len(module)+64)}
	s.clean = append(s.clean, header...)
	r := reader{data: module[len(header):]}
	for len(r.data) > 0 && r.err == nil {
		id := r.byte()
		content := r.take(r.u32())
		if r.err != nil || id == customSection {
			continue
		}
		if err := s.section(id, content); err != nil {
			return nil, shape{}, fmt.Errorf("%w: section %d: %w", errModule, id, err)
		}
	}
	if r.err != nil {
		return nil, shape{}, fmt.Errorf("%w: %w", errModule, r.err)
	}
	return s.clean, s.shape, nil
}

type screener struct {
	shape
	clean     []byte
	types     []arity
	functions []uint32 // types of all functions, the imported ones first
	bodies    int      // imported functions, and those whose code was seen so far
	locals    uint64   // of all functions seen so far
	program   int      // bytes of all sections seen so far but those of data
}

// arity is how many values a function takes and gives.
type arity struct{ params, results uint64 }

// arityOf is that of a type; none for a type that there is not, which is the
// compiler's to refuse.
func (s *screener) arityOf(typ uint32) arity {
	if uint64(typ) < uint64(len(s.types)) {
		return s.types[typ]
	}
	return arity{}
}

// section checks one section and appends it to the clean module.
func (s *screener) section(id byte, content []byte) error {
	if id != dataSection {
		if s.program += len(content); s.program > maxProgram {
			return fmt.Errorf("more than %d bytes that are not data", maxProgram)
		}
	}
	r := &reader{data: content}
	switch id {
	case typeSection:
		vector(r, maxTypes, "types", s.functionType)
	case importSection:
		vector(r, maxElements, "imports", s.importItem)
	case functionSection:
		vector(r, maxElements, "functions", func(r *reader) { s.functions = append(s.functions, r.u32()) })
	case tableSection:
		content = s.tables(r)
	case memorySection:
		vector(r, 1, "memories", func(r *reader) { s.pages, _, _ = limits(r) })
	case globalSection:
		vector(r, maxElements, "globals", func(r *reader) { globalType(r); constant(r) })
	case exportSection:
		vector(r, maxElements, "exports", func(r *reader) { r.name(); r.byte(); r.u32() })
	case startSection, dataCountSection:
		r.u32()
	case elementSection:
		vector(r, maxElements, "element segments", element)
	case codeSection:
		vector(r, maxElements, "functions", s.code)
	case dataSection:
		vector(r, maxSegments, "data segments", data)
	default:
		return fmt.Errorf("unknown section")
	}
	if err := r.done(); err != nil {
		return err
	}
	s.clean = append(s.clean, id)
	s.clean = binary.AppendUvarint(s.clean, uint64(len(content)))
	s.clean = append(s.clean, content...)
	return nil
}

func vector(r *reader, most int, of string, item func(*reader)) {
	for range r.count(most, of) {
		if r.err != nil {
			return
		}
		item(r)
	}
}

func (s *screener) functionType(r *reader) {
	if form := r.byte(); form != 0x60 {
		r.fail("type form %#x is not taken", form)
	}
	var a arity
	vector(r, maxParams, "parameters", func(r *reader) { a.params++; valueType(r) })
	vector(r, maxParams, "results", func(r *reader) { a.results++; valueType(r) })
	s.types = append(s.types, a)
}

func valueType(r *reader) {
	types := []byte{0x7f, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f} // i32 i64 f32 f64 v128 funcref externref
	if t := r.byte(); !slices.Contains(types, t) {
		r.fail("value type %#x is not taken", t)
	}
}

func globalType(r *reader) { valueType(r); r.byte() }

func (s *screener) importItem(r *reader) {
	s.imports = append(s.imports, imported{r.name(), r.name()})
	switch kind := r.byte(); kind {
	case 0:
		s.functions = append(s.functions, r.u32())
		s.bodies++
	case 1:
		valueType(r)
		limits(r)
	case 2:
		limits(r)
	case 3:
		globalType(r)
	default:
		r.fail("import of kind %d is not taken", kind)
	}
}

// limits reads the least and the greatest size of a table or memory.
func limits(r *reader) (least, greatest uint32, bounded bool) {
	switch flag := r.byte(); flag {
	case 0:
		return r.u32(), 0, false
	case 1:
		return r.u32(), r.u32(), true
	default:
		r.fail("limits of kind %d are not taken", flag)
		return 0, 0, false
	}
}

// tables writes the section again, with an upper bound to each table.
func (s *screener) tables(r *reader) []byte {
	n := r.count(maxTables, "tables")
	out := binary.AppendUvarint(nil, uint64(n))
	for range n {
		kind := r.byte()
		if kind != 0x70 && kind != 0x6f {
			r.fail("table type %#x is not taken", kind)
		}
		least, greatest, bounded := limits(r)
		if least > maxTableItems {
			r.fail("a table of %d, at most %d are taken", least, maxTableItems)
		}
		if !bounded || greatest > maxTableItems {
			greatest = maxTableItems
		}
		out = binary.AppendUvarint(append(out, kind, 1), uint64(least))
		out = binary.AppendUvarint(out, uint64(greatest))
	}
	return out
}

// constant skips a constant expression.
func constant(r *reader) {
	for r.err == nil {
		switch op := r.byte(); op {
		case 0x0b: // end
			return
		case 0x41: // i32.const
			r.skipInt(5)
		case 0x42: // i64.const
			r.skipInt(10)
		case 0x43: // f32.const
			r.take(4)
		case 0x44: // f64.const
			r.take(8)
		case 0x23, 0xd2: // global.get, ref.func
			r.u32()
		case 0xd0: // ref.null
			r.byte()
		case 0xfd: // v128.const
			r.u32()
			r.take(16)
		default:
			r.fail("instruction %#x in a constant", op)
		}
	}
}

// element skips an element segment. The bits of its kind: 1 not active, 2 with
// a table index (active) or declarative, 4 expressions instead of indices.
func element(r *reader) {
	kind := r.u32()
	if kind > 7 {
		r.fail("element segment of kind %d", kind)
	}
	if kind&1 == 0 {
		if kind&2 != 0 {
			r.u32()
		}
		constant(r)
	}
	if kind&3 != 0 {
		r.byte()
	}
	if kind&4 != 0 {
		vector(r, maxElements, "elements", constant)
	} else {
		vector(r, maxElements, "elements", func(r *reader) { r.u32() })
	}
}

// code checks the declarations of locals of one function, and adds up what its
// instructions cost. Their validity is the compiler's to check.
func (s *screener) code(r *reader) {
	body := &reader{data: r.take(r.u32())}
	locals := uint64(0)
	for range body.count(maxLocals, "groups of locals") {
		locals += uint64(body.u32())
		valueType(body)
	}
	if locals > maxLocals {
		body.fail("%d locals in a function, at most %d are taken", locals, maxLocals)
	}
	if s.locals += locals; s.locals > maxAllLocals {
		body.fail("%d locals in all, at most %d are taken", s.locals, maxAllLocals)
	}
	s.cost += s.functionCost(s.bodies, locals, body)
	s.bodies++
	if r.err == nil && body.err != nil {
		r.fail("function %d: %w", s.bodies-1, body.err)
	}
}

// data skips a data segment.
func data(r *reader) {
	switch kind := r.u32(); kind {
	case 0:
		constant(r)
	case 1:
	case 2:
		r.u32()
		constant(r)
	default:
		r.fail("data segment of kind %d", kind)
	}
	r.take(r.u32())
}
