// SPDX-License-Identifier: Apache-2.0

// Command amqp publishes messages to a broker with confirms while it consumes them from a queue of its own, and fails unless
// each came back once, in order and unchanged. It prints messages a second.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"math/rand"
	"os"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: amqp URL MESSAGES BYTES")
	}
	messages, err := strconv.Atoi(os.Args[2])
	check(err)
	size, err := strconv.Atoi(os.Args[3])
	check(err)
	connection, err := amqp.Dial(os.Args[1])
	check(err)
	begin := time.Now()
	check(exchange(connection, messages, size))
	fmt.Printf("%.0f\n", float64(messages)/time.Since(begin).Seconds())
	check(connection.Close())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// body is the content of message number i: the number and bytes that follow from it.
func body(i, size int) []byte {
	text := make([]byte, 8+size)
	binary.BigEndian.PutUint64(text, uint64(i))
	_, _ = rand.New(rand.NewSource(int64(i))).Read(text[8:])
	return text
}

func exchange(connection *amqp.Connection, messages, size int) error {
	publisher, err := connection.Channel()
	if err != nil {
		return err
	}
	if err := publisher.Confirm(false); err != nil {
		return err
	}
	consumer, err := connection.Channel()
	if err != nil {
		return err
	}
	queue, err := consumer.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		return err
	}
	got, err := consumer.Consume(queue.Name, "", true, true, false, false, nil)
	if err != nil {
		return err
	}
	context, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	sent := make(chan error, 1)
	go func() { sent <- publish(context, publisher, queue.Name, messages, size) }()
	for i := 0; i < messages; i++ {
		select {
		case message, open := <-got:
			if !open {
				return fmt.Errorf("message %d: the channel was closed", i)
			}
			if !bytes.Equal(message.Body, body(i, size)) {
				return fmt.Errorf("message %d came back changed", i)
			}
		case <-context.Done():
			return fmt.Errorf("message %d: %w", i, context.Err())
		}
	}
	return <-sent
}

// publish sends all and waits for the broker's word on each.
func publish(context context.Context, channel *amqp.Channel, queue string, messages, size int) error {
	confirms := make([]*amqp.DeferredConfirmation, 0, messages)
	for i := 0; i < messages; i++ {
		message := amqp.Publishing{ContentType: "application/octet-stream", Body: body(i, size)}
		confirm, err := channel.PublishWithDeferredConfirmWithContext(context, "", queue, false, false, message)
		if err != nil {
			return err
		}
		confirms = append(confirms, confirm)
	}
	for i, confirm := range confirms {
		confirmed, err := confirm.WaitContext(context)
		if err != nil {
			return err
		}
		if !confirmed {
			return fmt.Errorf("message %d was not confirmed", i)
		}
	}
	return nil
}
