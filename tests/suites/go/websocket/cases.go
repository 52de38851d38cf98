// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
)

// One case: nil is a pass.
type test struct {
	name string
	run  func(address string) error
}

// cases are numbered after the sections of the Autobahn test suite: 1 echoes, 2 pings, 3 reserved bits, 4 opcodes,
// 5 fragments, 7 closing, 10 chopped writes, 12 compression; then what is about a connection rather than frames.
func cases() []test {
	var all []test
	for _, part := range [][]test{echoes(), pings(), wrong(), fragments(), closing(), chopped(), compressed(), connections()} {
		all = append(all, part...)
	}
	return all
}

// noise is size bytes that do not compress.
func noise(size int) []byte {
	text := make([]byte, size)
	_, _ = rand.New(rand.NewSource(int64(size))).Read(text)
	return text
}

// on runs the case on a fresh connection.
func on(path string, run func(r *raw) error) func(string) error {
	return func(address string) error {
		r, err := open(address, path)
		if err != nil {
			return err
		}
		defer r.Close()
		return run(r)
	}
}

func echoes() []test {
	var all []test
	for _, size := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 1 << 20, 16 << 20} {
		for _, opcode := range []byte{opText, opBinary} {
			text, name := noise(size), "binary"
			if opcode == opText {
				name = "text"
				for i := range text {
					text[i] = 'a' + text[i]%26
				}
			}
			opcode := opcode
			all = append(all, test{fmt.Sprintf("1 echo of %d bytes, %s", size, name), on("/echo", func(r *raw) error {
				// Written while the echo is read: neither side may have to hold it all.
				sent := make(chan error, 1)
				go func() { sent <- r.send(frame{opcode: opcode, payload: text}) }()
				if err := r.message(opcode, text); err != nil {
					return err
				}
				return <-sent
			})})
		}
	}
	return all
}

func pings() []test {
	var all []test
	for _, size := range []int{0, 1, 125} {
		payload := noise(size)
		all = append(all, test{fmt.Sprintf("2 ping of %d bytes", size), on("/echo", func(r *raw) error {
			if err := r.send(frame{opcode: opPing, payload: payload}); err != nil {
				return err
			}
			return r.message(opPong, payload)
		})})
	}
	all = append(all,
		test{"2 ten pings in one write", on("/echo", func(r *raw) error {
			var frames []frame
			for i := byte(0); i < 10; i++ {
				frames = append(frames, frame{opcode: opPing, payload: []byte{i}})
			}
			if err := r.send(frames...); err != nil {
				return err
			}
			for i := byte(0); i < 10; i++ {
				if err := r.message(opPong, []byte{i}); err != nil {
					return err
				}
			}
			return nil
		})},
		test{"2 a pong that nobody asked for", on("/echo", func(r *raw) error {
			if err := r.send(frame{opcode: opPong, payload: []byte("?")}, frame{opcode: opPing}); err != nil {
				return err
			}
			return r.message(opPong, nil)
		})},
		test{"2 a ping of 126 bytes is refused", refused(1002, frame{opcode: opPing, payload: noise(126)})},
	)
	return all
}

// refused wants the connection closed with that code after those frames.
func refused(code uint16, frames ...frame) func(string) error {
	return on("/echo", func(r *raw) error {
		if err := r.send(frames...); err != nil {
			return err
		}
		return r.closed(code)
	})
}

func wrong() []test {
	var all []test
	for rsv := byte(1); rsv < 8; rsv++ {
		bits := frame{opcode: opText, rsv: rsv, payload: []byte("x")}
		all = append(all, test{fmt.Sprintf("3 reserved bits %03b are refused", rsv), refused(1002, bits)})
	}
	for _, opcode := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		odd := frame{opcode: opcode, payload: []byte("x")}
		all = append(all, test{fmt.Sprintf("4 opcode %d is refused", opcode), refused(1002, odd)})
	}
	return append(all, test{"4 a frame without a mask ends the connection", on("/echo", func(r *raw) error {
		if err := r.send(frame{opcode: opText, payload: []byte("x"), unmasked: true}); err != nil {
			return err
		}
		return r.ended()
	})})
}

func fragments() []test {
	text := []byte("the mesh is not here")
	echoed := func(frames ...frame) func(string) error {
		return on("/echo", func(r *raw) error {
			if err := r.send(frames...); err != nil {
				return err
			}
			return r.message(opText, text)
		})
	}
	bytewise := []frame{{opcode: opText, more: true, payload: text[:1]}}
	for i := 1; i < len(text); i++ {
		bytewise = append(bytewise, frame{opcode: opContinuation, more: i+1 < len(text), payload: text[i : i+1]})
	}
	head, tail := text[:7], text[7:]
	return []test{
		{"5 two fragments", echoed(frame{opcode: opText, more: true, payload: head}, frame{payload: tail})},
		{"5 a fragment for each byte", echoed(bytewise...)},
		{"5 empty fragments", echoed(frame{opcode: opText, more: true}, frame{more: true, payload: text}, frame{})},
		{"5 a ping among fragments", on("/echo", func(r *raw) error {
			ping := frame{opcode: opPing, payload: []byte("?")}
			err := r.send(frame{opcode: opBinary, more: true, payload: noise(300000)}, ping, frame{payload: tail})
			if err != nil {
				return err
			}
			got := 0
			for pong := false; got < 300000+len(tail) || !pong; {
				frame, err := r.next()
				if err != nil {
					return err
				}
				if frame.opcode == opPong {
					pong = true
				} else {
					got += len(frame.payload)
				}
			}
			return nil
		})},
		{"5 a continuation of nothing is refused", refused(1002, frame{payload: text})},
		{"5 a message within a message is refused",
			refused(1002, frame{opcode: opText, more: true, payload: head}, frame{opcode: opText, payload: tail})},
		{"5 a ping in fragments is refused", refused(1002, frame{opcode: opPing, more: true}, frame{})},
	}
}

func closing() []test {
	var all []test
	closeWith := func(code uint16) frame {
		return frame{opcode: opClose, payload: append(binary.BigEndian.AppendUint16(nil, code), "bye"...)}
	}
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		all = append(all, test{fmt.Sprintf("7 close code %d is answered", code), refused(code, closeWith(code))})
	}
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535} {
		all = append(all, test{fmt.Sprintf("7 close code %d is refused", code), refused(1002, closeWith(code))})
	}
	all = append(all,
		test{"7 a close frame of one byte is refused", refused(1002, frame{opcode: opClose, payload: []byte{3}})},
		test{"7 nothing is echoed after a close frame",
			refused(1000, closeWith(1000), frame{opcode: opText, payload: []byte("late")})},
		test{"7 the server's own close reaches the client", on("/greet", func(r *raw) error {
			if err := r.message(opText, []byte("welcome")); err != nil {
				return err
			}
			if err := r.closing(1000); err != nil {
				return err
			}
			if err := r.send(closeWith(1000)); err != nil {
				return err
			}
			return drained(r)
		})},
	)
	return all
}

// drained waits for the end of the connection, whatever comes before it.
func drained(r *raw) error {
	_, err := io.Copy(io.Discard, r.from)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return errors.New("the connection stayed open")
	}
	return nil
}

func chopped() []test {
	text := noise(400)
	return []test{
		{"10 a message written byte by byte", on("/echo", func(r *raw) error {
			wire := frame{opcode: opBinary, payload: text}.bytes()
			for i := range wire {
				if _, err := r.Write(wire[i : i+1]); err != nil {
					return err
				}
			}
			return r.message(opBinary, text)
		})},
		{"10 a thousand messages in one write", on("/echo", func(r *raw) error {
			var frames []frame
			for i := 0; i < 1000; i++ {
				frames = append(frames, frame{opcode: opBinary, payload: text[:i%len(text)]})
			}
			sent := make(chan error, 1)
			go func() { sent <- r.send(frames...) }()
			for i := 0; i < 1000; i++ {
				if err := r.message(opBinary, text[:i%len(text)]); err != nil {
					return fmt.Errorf("message %d: %w", i, err)
				}
			}
			return <-sent
		})},
	}
}
