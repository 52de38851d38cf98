// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// A frame as RFC 6455 section 5.2 draws it. The zero values of the odd fields are what a good client sends.
type frame struct {
	more     bool // not the last of its message
	rsv      byte // the three reserved bits
	opcode   byte
	payload  []byte
	unmasked bool
}

// The opcodes of RFC 6455 section 11.8.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

const handshake = "GET %s HTTP/1.1\r\nHost: suite\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// A connection on which frames are written by hand.
type raw struct {
	net.Conn
	from *bufio.Reader
}

// open shakes hands on path, with early sent in the same write as the request.
func open(address, path string, early ...frame) (*raw, error) {
	connection, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return nil, err
	}
	if err := connection.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, err
	}
	text := fmt.Appendf(nil, handshake, path)
	for _, frame := range early {
		text = append(text, frame.bytes()...)
	}
	if _, err := connection.Write(text); err != nil {
		return nil, err
	}
	r := &raw{Conn: connection, from: bufio.NewReader(connection)}
	answer, err := http.ReadResponse(r.from, nil)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("answered %s", answer.Status)
	}
	if accept := answer.Header.Get("Sec-WebSocket-Accept"); accept != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		return nil, fmt.Errorf("accepted with %q", accept)
	}
	return r, nil
}

func (f frame) bytes() []byte {
	first := f.rsv<<4 | f.opcode
	if !f.more {
		first |= 0x80
	}
	text := []byte{first}
	mask := byte(0x80)
	if f.unmasked {
		mask = 0
	}
	switch size := len(f.payload); {
	case size < 126:
		text = append(text, mask|byte(size))
	case size < 1<<16:
		text = binary.BigEndian.AppendUint16(append(text, mask|126), uint16(size))
	default:
		text = binary.BigEndian.AppendUint64(append(text, mask|127), uint64(size))
	}
	if f.unmasked {
		return append(text, f.payload...)
	}
	key := [4]byte{0xa1, 0x00, 0x5c, 0xff}
	text = append(text, key[:]...)
	for i, b := range f.payload {
		text = append(text, b^key[i%4])
	}
	return text
}

func (r *raw) send(frames ...frame) error {
	var text []byte
	for _, frame := range frames {
		text = append(text, frame.bytes()...)
	}
	_, err := r.Write(text)
	return err
}

// next reads one frame, which a server must not mask.
func (r *raw) next() (frame, error) {
	var head [2]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil {
		return frame{}, err
	}
	if head[1]&0x80 != 0 {
		return frame{}, errors.New("the server masked a frame")
	}
	size := uint64(head[1])
	switch size {
	case 126:
		var more [2]byte
		if _, err := io.ReadFull(r.from, more[:]); err != nil {
			return frame{}, err
		}
		size = uint64(binary.BigEndian.Uint16(more[:]))
	case 127:
		var more [8]byte
		if _, err := io.ReadFull(r.from, more[:]); err != nil {
			return frame{}, err
		}
		size = binary.BigEndian.Uint64(more[:])
	}
	if size > limit {
		return frame{}, fmt.Errorf("a frame of %d bytes", size)
	}
	got := frame{more: head[0]&0x80 == 0, rsv: head[0] >> 4 & 7, opcode: head[0] & 15, payload: make([]byte, size)}
	_, err := io.ReadFull(r.from, got.payload)
	return got, err
}

// message reads a whole message of that kind and compares it.
func (r *raw) message(opcode byte, want []byte) error {
	var got []byte
	for first := true; ; first = false {
		frame, err := r.next()
		if err != nil {
			return err
		}
		if first && frame.opcode != opcode || !first && frame.opcode != opContinuation {
			return fmt.Errorf("opcode %d: % x", frame.opcode, clip(frame.payload))
		}
		got = append(got, frame.payload...)
		if !frame.more {
			break
		}
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%d bytes came back changed or cut to %d", len(want), len(got))
	}
	return nil
}

// answered reads the answer to a handshake and wants that status.
func (r *raw) answered(status int) error {
	answer, err := http.ReadResponse(bufio.NewReader(r.Conn), nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != status {
		return fmt.Errorf("answered %s", answer.Status)
	}
	return nil
}

// closed reads up to the close frame, which must have that code, and to the end of the connection.
func (r *raw) closed(code uint16) error {
	if err := r.closing(code); err != nil {
		return err
	}
	return r.ended()
}

// closing reads up to the close frame, which must have that code.
func (r *raw) closing(code uint16) error {
	for {
		frame, err := r.next()
		if err != nil {
			return fmt.Errorf("no close frame: %w", err)
		}
		if frame.opcode != opClose {
			continue
		}
		if len(frame.payload) < 2 {
			return errors.New("a close frame without a code")
		}
		if got := binary.BigEndian.Uint16(frame.payload); got != code {
			return fmt.Errorf("closed with %d: %q", got, clip(frame.payload[2:]))
		}
		return nil
	}
}

// ended waits for the end of the connection; bytes before it are a failure.
func (r *raw) ended() error {
	rest, err := io.ReadAll(r.from)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return errors.New("the connection stayed open")
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes after the end", len(rest))
	}
	return nil
}

func clip(text []byte) []byte {
	if len(text) > 40 {
		return text[:40]
	}
	return text
}
