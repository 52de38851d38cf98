// SPDX-License-Identifier: Apache-2.0

// Command banner measures how long a server that speaks first takes to say its first byte, in microseconds from before the
// connection is opened: the median and the fastest. It must say nothing itself.
package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"sort"
	"strconv"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: banner ADDRESS TIMES")
	}
	times, err := strconv.Atoi(os.Args[2])
	if err != nil || times < 1 {
		log.Fatalf("TIMES is a number: %q", os.Args[2])
	}
	took := make([]time.Duration, 0, times)
	for i := 0; i < times; i++ {
		begin := time.Now()
		if err := first(os.Args[1]); err != nil {
			log.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	sort.Slice(took, func(a, b int) bool { return took[a] < took[b] })
	fmt.Printf("median %d\nfastest %d\n", took[len(took)/2].Microseconds(), took[0].Microseconds())
}

// first opens a connection and waits for a byte.
func first(address string) error {
	connection, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	_, err = connection.Read(make([]byte, 1))
	return err
}
